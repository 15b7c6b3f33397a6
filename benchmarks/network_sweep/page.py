"""Writes docs/networks.md from the results of a sweep: counts, exceptions, then every network."""

import importlib.metadata
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from network_sweep.record import HELD, Record

__all__ = ["BAR", "page", "write_page"]

BAR = 0.95
TRIED = (HELD, "differs by itself", "changed", "refused", "failed")
LIBRARIES = ("torch", "torchvision", "timm", "transformers")

HEAD = """# Which networks hold, and how much of each the tasks divide

Two tasks are trained in each network, from random weights and on random inputs: the first by SGD with momentum and
weight decay, pruned by half and retrained; the second by AdamW with weight decay. The first one's outputs, all of them,
are taken from the live network in eval mode before it is finished, and compared as integers with those of its
subnetwork in the middle of the second and after it. A network **holds** if no bit differs. One that gives other bits
in two passes by itself, with one seed, is listed as such.

Sizes: of timm and torchvision small networks of many families, as they are published; of transformers a tiny
configuration of every model type, of which each part that the inputs named below reach is trained. The sweep ended by
the clock: what it did not come to is counted as not begun.

- **of all**: the share of all parameters that the tasks divide (`prunable="weights"`), counted in the published size,
  or in that of the default configuration; the head is part of it in torchvision only.
- **of weights**: the same in the size that was trained, without embeddings and position tables, norms, biases and the
  magnitudes of weight norms. What is a table is no matter of names here: a traced forward pass tells what multiplies
  activations from what is looked up, added or joined to them, or scales them; only what the inputs do not reach is
  told by name. The bar is {bar:.0%}.

`python benchmarks/networks.py --hours H --seconds 25 --page`, in several goes, wrote this page: seed 0, the CPU with
one thread and 25 seconds of it for each network, with {versions}.
"""


def write_page(records: Sequence[Record], known: Mapping[str, int], path: Path) -> None:
    """Writes the page to ``path``."""
    path.write_text(page(records, known) + "\n")


def page(records: Sequence[Record], known: Mapping[str, int]) -> str:
    """Returns the page, in Markdown.

    Args:
        records: Of all networks that were begun.
        known: Library -> number of networks that it has.
    """
    versions = ", ".join(f"{name} {importlib.metadata.version(name).partition('+')[0]}" for name in LIBRARIES)
    parts = [HEAD.format(bar=BAR, versions=versions)]
    parts += [
        "## Counts\n",
        *_counts(records, known),
        "",
        "## Exceptions\n",
        *_exceptions(records),
        "",
        "## Not tried\n",
    ]
    parts += _not_tried(records)
    for library in LIBRARIES:
        parts += ["", f"## {library}\n", *_networks(each for each in records if each.library == library)]
    return "\n".join(parts)


def _counts(records: Sequence[Record], known: Mapping[str, int]) -> Iterator[str]:
    columns = ["library", "hold", "of", "differ by themselves", "changed", "refused", "fail"]
    columns += ["not tried", "under the bar", "not begun"]
    yield _row(columns)
    yield "|---" * len(columns) + "|"
    for library in (*LIBRARIES, "all"):
        found = [each for each in records if library in (each.library, "all")]
        kinds = Counter(each.kind for each in found)
        tried = sum(kinds[kind] for kind in TRIED)
        under = sum(1 for each in found if _is_under(each))
        begun = sum(known.values()) if library == "all" else known[library]
        row = [
            library,
            kinds[HELD],
            tried,
            *(kinds[kind] for kind in TRIED[1:]),
            len(found) - tried,
            under,
            begun - len(found),
        ]
        yield _row(row)


def _exceptions(records: Sequence[Record]) -> Iterator[str]:
    found = [each for each in _sorted(records) if each.kind in TRIED[1:]]
    if not found:
        yield "Every network that was tried holds.\n"
    else:
        yield "Networks that were tried, and do not count as holding:\n"
        yield "| library | network | | |"
        yield "|---|---|---|---|"
        yield from (_row([each.library, each.name, each.kind, each.detail]) for each in found)
        yield ""
    under = [each for each in _sorted(records) if _is_under(each)]
    if not under:
        yield f"Of every network that was tried, at least {BAR:.0%} of the weights are divided."
    else:
        yield f"Networks of whose weights less than {BAR:.0%} are divided, and what the rest is:\n"
        yield "| library | network | of weights | of all | the rest, and what the forward pass does with it |"
        yield "|---|---|---|---|---|"
        for each in under:
            yield _row([each.library, each.name, f"{each.of_weights:.1%}", f"{each.of_all:.1%}", _rest(each)])


def _not_tried(records: Sequence[Record]) -> Iterator[str]:
    reasons = defaultdict(list)
    for each in _sorted(records):
        if each.kind not in TRIED:
            reasons[each.library, each.kind, _reason(each.detail)].append(each.name)
    yield "| library | networks | | |"
    yield "|---|---|---|---|"
    for (library, kind, reason), names in reasons.items():
        yield f"| {library} | {', '.join(names)} | {kind} | {_short(reason, 120)} |"


def _reason(detail: str) -> str:
    """Returns why the smallest size that was tried did not do."""
    reason = re.sub(r"^(constant: )?(NotTriedError: )?", "", detail.partition("; ")[0].partition(" / ")[0])
    return "too large in every size" if re.fullmatch(r"[\d,]+ parameters", reason) else reason


def _networks(records: Iterable[Record]) -> Iterator[str]:
    yield "| network | parameters | of all | of weights | trained with |"
    yield "|---|---|---|---|---|"
    for each in _sorted(records):
        if each.kind == HELD:
            size = f"{each.published['total']:,}" if each.published else f"({each.shares['total']:,})"
            yield _row(
                [each.name, size, f"{each.of_all:.1%}", f"{each.of_weights:.1%}", each.detail.removeprefix("inputs: ")]
            )


def _rest(record: Record) -> str:
    """Returns the largest parameters that are not owned and belong to the weights, and their share of these."""
    left = sorted(record.shares["left"].items(), key=lambda item: -item[1][0])
    named = [f"`{name}` {number / record.shares['weights']:.1%} ({role})" for name, (number, role) in left[:3]]
    return ", ".join(named + ([f"and {len(left) - 3} more"] if len(left) > 3 else []))


def _is_under(record: Record) -> bool:
    return bool(record.shares) and record.of_weights < BAR


def _sorted(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda each: (LIBRARIES.index(each.library), each.name))


def _row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(_short(str(cell), 160) for cell in cells)} |"


def _short(text: str, length: int) -> str:
    text = " ".join(text.split()).replace("|", "/").replace("<", "&lt;")
    return text if len(text) <= length else text[: length - 3] + "..."
