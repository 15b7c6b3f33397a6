"""Checks names of classes, files and folders, and shows those that cannot be written as they are.

A file name is bytes. Python carries those that are no UTF-8 as lone surrogates, with which any file can be opened, but
which nothing can write: no YAML, JSON or CSV in UTF-8, no terminal.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

__all__ = ["as_unicode", "check_class_names", "distinct_names", "is_unicode", "mended_class_names", "shown"]

LONGEST_CLASS_NAME = 1000

_SURROGATES = re.compile("[\ud800-\udfff]")
# Control characters, separators of lines, and what turns the direction of a line.
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def is_unicode(text: str) -> bool:
    """Returns whether ``text`` can be written in UTF-8."""
    return _SURROGATES.search(text) is None


def as_unicode(text: object) -> str:
    r"""Returns ``text`` in valid Unicode: bytes of a file name that are no UTF-8 become ``\xe9`` and such."""
    return _SURROGATES.sub(_escaped, str(text))


def shown(text: object) -> str:
    r"""Returns ``text`` on one line, for messages: as :func:`as_unicode`, and control characters become ``\x0a``."""
    return _BREAKS.sub(_escaped, as_unicode(text))


def check_class_names(names: Sequence[str]) -> None:
    """Checks that class names can be written to results and packed files, and are distinct.

    Args:
        names: One per class.

    Raises:
        ValueError: If one is blank, longer than 1000 characters, is no valid Unicode or holds control characters, or
            two are one name (also one that is composed of other characters, as file systems of Macs do).
    """
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or shown(name) != name:
            raise ValueError(
                f"the name of class {number} is '{shown(str(name)[:60])}': it has to be valid Unicode (UTF-8) without "
                "control characters, to be written into results and packed files; rename it"
            )
        if len(name) > LONGEST_CLASS_NAME:
            raise ValueError(
                f"the name of class {number} begins with {name[:20]!r} and is {len(name)} characters long; allowed are "
                f"{LONGEST_CLASS_NAME}: rename it"
            )
        other = seen.setdefault(unicodedata.normalize("NFC", name), number)
        if other != number:
            written = f"'{name}'" if names[other] == name else f"'{name}' (written {names[other]!a} and {name!a})"
            raise ValueError(
                f"classes {other} and {number} are both called {written}; results would not tell them apart: give each "
                "a name of its own"
            )


def distinct_names(names: Sequence[str], keys: Sequence[str]) -> tuple[str, ...]:
    """Returns ``names`` made distinct: those of several classes are followed by their key: ``crane (n02012849)``.

    Args:
        names: One per class.
        keys: What the data set itself calls each class: a WordNet ID, a folder.
    """
    counts = Counter(names)
    return tuple(f"{name} ({key})" if counts[name] > 1 else name for name, key in zip(names, keys, strict=True))


def mended_class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns names from files of earlier versions, made valid and distinct: the second "crane" becomes "crane (2)".

    What cannot be written comes escaped; a name that is blank or too long becomes "class 7", by its index.

    Args:
        names: One per class.
    """
    plain = [shown(name) for name in names]
    plain = [n if n.strip() and len(n) <= LONGEST_CLASS_NAME - 10 else f"class {i}" for i, n in enumerate(plain)]
    taken = {unicodedata.normalize("NFC", name) for name in plain}
    found: set[str] = set()
    times: Counter[str] = Counter()
    mended = []
    for name in plain:
        key, new = unicodedata.normalize("NFC", name), name
        base = key
        while key in found or (new != name and key in taken):
            times[base] += 1
            new = f"{name} ({times[base] + 1})"
            key = unicodedata.normalize("NFC", new)
        found.add(key)
        mended.append(new)
    return tuple(mended)


def _escaped(found: "re.Match[str]") -> str:
    code = ord(found.group())
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
