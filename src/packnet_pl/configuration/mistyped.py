"""Refuses overrides that Hydra cannot read, or would read otherwise than they are meant, with what to type instead."""

import re
import shlex
import unicodedata
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from packnet_pl.configuration.overrides import MAPPINGS, key_of, quoted
from packnet_pl.configuration.repeated_keys import repeated_key
from packnet_pl.errors import UsageError

__all__ = ["check_overrides"]

# What word processors and some keyboards make of plain characters.
_PLAIN = {
    ord(fancy): plain
    for plain, several in {'"': "“”„‟«»", "'": "‘’‚‛", "-": "–‒−", "--": "—"}.items()
    for fancy in several
}
_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")
# Keys whose value is no whole number.
_FRACTIONS = (".ratio", ".lr", ".fraction", ".gradient_clip", ".weight_decay", ".later_lr", ".width")


def check_overrides(overrides: Sequence[str], *, sweep: bool) -> None:
    """Refuses overrides that Hydra cannot read as they are meant. Of two for one key the last one counts, as in Hydra.

    Args:
        overrides: The overrides of a command line, KEY=VALUE.
        sweep: Whether a list of values with commas is a sweep (``-m``).

    Raises:
        UsageError: If there is one; the message says what to type.
    """
    for number, override in enumerate(overrides):
        parsed = _parse(override)
        if not isinstance(parsed, Override):
            raise UsageError(_explain(overrides, number, parsed))
        key, value = key_of(override), override.partition("=")[2]
        if parsed.is_sweep_override() and not sweep and "," in value and "(" not in value:
            raise UsageError(_explain_comma(override, key, value))
        repeated = repeated_key(override)
        if repeated is not None:
            raise UsageError(f"{key}: {repeated!r} stands in it twice; give each name once")
        if key in MAPPINGS:
            _check_not_expanded(key, [other.partition("=")[2] for other in overrides if key_of(other) == key])


def _parse(override: str) -> Override | HydraException:
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        return error
    return parsed if parsed.key_or_group else HydraException("there is no key before the equals sign")


def _explain(overrides: Sequence[str], number: int, error: HydraException) -> str:
    override = overrides[number]
    option = re.fullmatch(r"[–—‒−]+-*(\w[\w-]*)", override)
    if option:
        name = option.group(1)
        return f"{override!r} begins with another dash than options do; type {'-' if len(name) == 1 else '--'}{name}"
    cut = _joined(overrides, number)
    if cut is not None:
        meant = shlex.quote(cut)
        return f"{override!r} is a part of what was meant: the shell takes a word with spaces apart; type {meant}"
    for better in _candidates(override):
        if better != override and isinstance(_parse(better), Override):
            return f"{override!r} cannot be read; type {shlex.quote(better)}"
    key, equals, _ = override.partition("=")
    if not equals or not key:
        return f"{override!r} is not of the form KEY=VALUE, such as seed=1, without spaces"
    odd = re.search(r"[^\w$.@/+~-]", key, re.ASCII)
    if odd:
        return (
            f"{override!r}: a key on the command line cannot hold {odd.group()!r}; set it in a configuration of your "
            "own (--config-dir), or choose another name"
        )
    message = " ".join(str(error).split())[:120]
    return f"{override!r} cannot be read ({message}); text beyond letters and digits needs quotes: '{key}=\"...\"'"


def _joined(overrides: Sequence[str], number: int) -> str | None:
    """Returns the override that the shell split into the arguments from ``number`` (or the one before) on."""
    if number and overrides[number - 1].endswith("=") and "=" not in overrides[number]:
        return overrides[number - 1] + overrides[number]
    for count in (3, 2):
        tried = "".join(overrides[number : number + count])
        whole = "=" in tried and "=" not in overrides[number] and not tried.endswith("=")
        if whole and tried.count("=") == 1 and isinstance(_parse(tried), Override):
            return tried
    joined = overrides[number]
    for further in overrides[number + 1 :]:
        joined += f" {further}"
        if sum(map(joined.count, _OPENING)) == sum(map(joined.count, _CLOSING)):
            return joined if isinstance(_parse(joined), Override) else None
    return None


def _candidates(override: str) -> Iterator[str]:
    """Yields corrected overrides, the likeliest first."""
    plain = unicodedata.normalize("NFKC", override.translate(_PLAIN)) if not override.isascii() else override
    plain = plain[1:-1] if len(plain) > 2 and plain[0] == plain[-1] and plain[0] in "'\"" else plain
    spaced = re.sub(r"\s*=[\s=]*", "=", plain, count=1)
    missing = "".join(_CLOSING[_OPENING.index(sign)] for sign in reversed(_unclosed(spaced)))
    yield from (plain, spaced, spaced + missing, spaced.replace(";", ","), spaced.rstrip(","))
    if "=" not in plain:
        yield re.sub(r"\s*:\s*", "=", plain, count=1)
        return
    key, _, value = spaced.partition("=")
    if value.startswith("(") and value.endswith(")"):
        yield f"{key}=[{value[1:-1]}]"
    if value.startswith("{") and value.endswith("}"):
        # Not the sign in a folder's own name.
        pairs = re.sub(r"([{,][^:,{}=]*?) *= *", r"\1: ", value)
        yield f"{key}={pairs}"
    for text in (override.partition("=")[2], value):
        yield f"{key}={_items_quoted(text)}"
        if key_of(override) in MAPPINGS or text[:1] not in _OPENING:
            yield f"{key}={quoted(text)}"


def _unclosed(text: str) -> list[str]:
    """Returns the brackets of ``text`` that are not closed, the outermost first."""
    found: list[str] = []
    for sign in text:
        if sign in _OPENING:
            found.append(sign)
        elif sign in _CLOSING and found:
            found.pop()
    return found


def _items_quoted(value: str) -> str:
    """Returns a list or mapping with quotes around each item that needs them."""

    def quote(found: re.Match[str]) -> str:
        return quoted(found.group()) if not found.group().isascii() else found.group()

    return re.sub(r"""(?<![\w"'])[^\[\]{},:"' ][^\[\]{},:"']*(?!["'])""", quote, value)


def _explain_comma(override: str, key: str, value: str) -> str:
    if re.fullmatch(r"\d+,\d+", value) and key.endswith(_FRACTIONS):
        return f"{override!r} has a comma in a number; type {key}={value.replace(',', '.', 1)}"
    return (
        f"{override!r} has a comma: type {shlex.quote(f'{key}=[{value}]')} for a list, or put -m in front for a sweep "
        "over the values"
    )


def _check_not_expanded(key: str, values: Sequence[str]) -> None:
    if len(values) > 1 and not any(value.startswith((*_OPENING, '"', "'")) for value in values):
        both = shlex.quote(f"{key}={{{', '.join(values)}}}")
        raise UsageError(f"{key} was given {len(values)} times: a shell takes unquoted braces apart; type {both}")
