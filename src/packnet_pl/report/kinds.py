"""Groups runs that differ in their seed alone, by method, settings and prune ratios, and labels each group."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from packnet_pl.further_settings import DETAILS, OFF
from packnet_pl.names import shown
from packnet_pl.report.runs import Run

__all__ = ["Kind", "by_kind", "is_comparison", "label", "ratio_of", "remarks", "sequences", "setting_labels", "unsaid"]

_ORDER = {"individual": 0, "classifier_only": 1, "finetune": 2, "lwf": 3, "joint": 4, "packnet": 6}
_UNKNOWN = 5
# What the paper's PackNet is set to goes unsaid, so that the plain name means the paper's.
_PAPER = {
    "packnet": {"scope": "layer", "granularity": "weight", "norm": "shared", "bias": "shared", "prunable": "paper"}
}


@dataclass(frozen=True)
class Kind:
    """Method, settings and prune ratios: what runs share that differ in their seed alone.

    Attributes:
        method: Name of the method.
        settings: Names and values of what it was set to, in words.
        ratios: Prune ratio per task; None where nothing was released.
    """

    method: str
    settings: tuple[tuple[str, str], ...]
    ratios: tuple[float | None, ...]

    @property
    def prunes(self) -> bool:
        """Whether anything was released."""
        return any(ratio is not None for ratio in self.ratios)

    @property
    def short_ratio(self) -> float | str:
        """The prune ratio, if it is one number for every task that was pruned; else a list of all, in words."""
        numbers = {ratio for ratio in self.ratios if ratio is not None}
        return numbers.pop() if len(numbers) == 1 else self.all_ratios

    @property
    def all_ratios(self) -> str:
        """A list of all, in words."""
        return "[" + ", ".join("-" if ratio is None else f"{ratio:g}" for ratio in self.ratios) + "]"


def sequences(runs: Iterable[Run]) -> list[list[Run]]:
    """Groups ``runs`` by backbone and tasks in their order: only errors on the same tasks can be compared."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.arch, run.tasks, tuple(run.errors)), []).append(run)
    return [groups[key] for key in sorted(groups)]


def by_kind(runs: Iterable[Run]) -> dict[Kind, list[Run]]:
    """Groups ``runs`` of one sequence by method, prune ratios and settings.

    Returns:
        From the least sharing to PackNet: individual networks, classifier only, fine-tuning, LwF, joint, other methods
        by name, PackNet by rising ratio; the paper's settings before others.
    """
    kinds: dict[Kind, list[Run]] = {}
    for run in runs:
        kinds.setdefault(Kind(run.method, tuple(sorted(run.settings.items())), run.ratios), []).append(run)
    return {kind: kinds[kind] for kind in sorted(kinds, key=_sort_key)}


def is_comparison(runs: Iterable[Run]) -> bool:
    """Returns whether ``runs`` of one sequence differ in method or settings, or none of them has a prune ratio."""
    kinds = by_kind(runs)
    return len({(kind.method, kind.settings) for kind in kinds}) > 1 or not any(kind.prunes for kind in kinds)


def label(kind: Kind, among: Collection[Kind]) -> str:
    """Returns the name of ``kind`` in a table of ``among``: method, ratio, and the settings that are its own."""
    name = f"{kind.method} {ratio_of(kind, among)}" if kind.prunes else kind.method
    return ", ".join([name, *setting_labels(kind, among)])


def ratio_of(kind: Kind, among: Collection[Kind]) -> float | str:
    """Returns the prune ratio; in full if another of ``among`` would look the same, but did not prune all of them."""
    short = kind.short_ratio
    alike = {one.ratios for one in among if (one.method, one.short_ratio) == (kind.method, short)}
    return short if len(alike) == 1 else kind.all_ratios


def setting_labels(kind: Kind, among: Iterable[Kind]) -> list[str]:
    """Returns the settings in which ``kind`` differs from others of its method, save those of the paper.

    How an option is set is said where others that have it are set otherwise.
    """
    mine, paper = dict(kind.settings), _PAPER.get(kind.method, {})
    differing = _differing(kind.method, among)
    if differing and not mine:
        return ["settings not recorded"]
    alike = {name for name in DETAILS.intersection(differing) if len(differing[name] - {None}) == 1}
    said = [name for name in differing if (name in mine or name not in OFF) and name not in alike]
    values = [(name, mine.get(name, "not recorded")) for name in said]
    return [f"{name} {value}" for name, value in values if paper.get(name) != value]


def unsaid(kinds: Iterable[Kind]) -> list[str]:
    """Returns, per method of which rows differ in a setting, the values that their labels leave out."""
    texts = []
    for method, paper in _PAPER.items():
        found = _differing(method, kinds)
        left = [f"{name} {paper[name]}" for name, values in found.items() if paper.get(name, "") in values]
        texts += [f"{method}: {', '.join(left)} where not said otherwise"] if left else []
    return texts


def remarks(runs: Iterable[Run]) -> list[str]:
    """Returns remarks on ``runs`` of one sequence: which are left out, and which are there more than once."""
    texts = []
    kinds = by_kind(runs)
    one = next(iter(kinds.values()))[0]
    if without := [task for task in one.tasks if task not in one.errors]:
        texts.append(f"no validation split, left out: {', '.join(without)}")
    for kind, same in kinds.items():
        for seed in sorted({run.seed for run in same}):
            folders = [shown(run.folder) for run in same if run.seed == seed]
            if len(folders) > 1:
                named = ", ".join(folders[:4] + (["..."] if len(folders) > 4 else []))
                texts.append(
                    f"{label(kind, kinds)}, seed {seed}: {len(folders)} runs ({named}) are counted as one sample each; "
                    "leave out copies, and runs that differ in what is not shown here"
                )
    return texts


def _differing(method: str, kinds: Iterable[Kind]) -> dict[str, set[str | None]]:
    """Returns the settings in which the kinds of ``method`` differ, with their values; None where there is none."""
    found = [dict(kind.settings) for kind in kinds if kind.method == method]
    names = sorted({name for settings in found for name in settings})
    values = {name: {settings.get(name) for settings in found} for name in names}
    return {name: values[name] for name in names if len(values[name]) > 1}


def _sort_key(kind: Kind) -> tuple[Any, ...]:
    paper = _PAPER.get(kind.method, {})
    settings = [(name, paper.get(name) != value, _natural(value)) for name, value in kind.settings]
    ratio = kind.short_ratio
    return _ORDER.get(kind.method, _UNKNOWN), kind.method, isinstance(ratio, str), ratio, settings, kind.all_ratios


def _natural(text: str) -> tuple[float, str]:
    try:
        return float(text), ""
    except ValueError:
        return float("inf"), text
