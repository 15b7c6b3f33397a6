"""Compares methods side by side, as in the paper's table: errors, and the gap to individual networks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from packnet_pl.further_settings import OFF
from packnet_pl.report.kinds import by_kind, label, remarks, unsaid
from packnet_pl.report.runs import SPLIT_NAMES, Run

__all__ = ["MethodComparison", "MethodRow", "compare_methods"]

BASELINE = "individual"


@dataclass(frozen=True)
class MethodRow:
    """The runs of one method and its settings, over seeds.

    Attributes:
        label: Method, prune ratio, and the settings that tell it from the other rows.
        runs: One per seed.
        run_gaps: Per run: mean error minus that of individual networks of the same seed; None if there are none.
        gaps: The samples of the gap: those of ``run_gaps`` that there are. If there are none, the difference of the
            means; if there are no individual networks at all, nothing.
    """

    label: str
    runs: tuple[Run, ...]
    run_gaps: tuple[float | None, ...]
    gaps: tuple[float, ...]

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.runs[0].method

    def errors(self, task: str | None) -> list[float]:
        """Returns the error of ``task`` per run, or of None: the mean over the tasks; in [0, 1]."""
        return [run.error(task) for run in self.runs]

    @property
    def forgetting(self) -> list[float]:
        """Mean forgetting of all tasks but the last, per run for which it has a meaning."""
        return [value for run in self.runs if (value := run.mean_forgetting) is not None]

    @property
    def forgets_nothing(self) -> bool:
        """Whether each single task's forgetting that was measured is exactly 0."""
        single = [run.forgetting[task] for run in self.runs for task in run.tasks[:-1]]
        return bool(self.forgetting) and all(not value for value in single)

    @property
    def networks(self) -> float:
        """How many networks are kept."""
        return fmean(run.networks for run in self.runs)

    @property
    def megabytes(self) -> float:
        """Mean size of the file with all tasks, in 10^6 bytes."""
        return fmean(run.megabytes for run in self.runs)

    @property
    def bits(self) -> float:
        """Mean of what it takes per weight to tell which task uses it, in bits."""
        return fmean(run.bits for run in self.runs)

    @property
    def minutes(self) -> float | None:
        """Mean wall time of a run, in minutes; None where that of one is not known."""
        known = [run.seconds for run in self.runs if run.seconds is not None]
        return fmean(known) / 60 if len(known) == len(self.runs) else None


@dataclass(frozen=True)
class MethodComparison:
    """The methods on one sequence and backbone.

    Attributes:
        arch: Name of the backbone.
        split: "test" or "val": what the errors were measured on.
        tasks: Those with an error, in order.
        rows: One per method and settings.
        notes: What a reader of the table has to know.
    """

    arch: str
    split: str
    tasks: tuple[str, ...]
    rows: tuple[MethodRow, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """The title: what the figures are."""
        where = "test split" if self.split == "test" else "validation split, for choosing settings"
        return f"error at the end on {self.arch}, in %: {where}"

    @property
    def heading(self) -> str:
        """The title of the figure."""
        return f"{SPLIT_NAMES[self.split]} error at the end of the sequence on {self.arch}"


def compare_methods(runs: Sequence[Run]) -> MethodComparison:
    """Sets methods side by side.

    The gap is to individual networks; where there are several settings of them, to those with nothing beyond the paper.

    Args:
        runs: Of one sequence and backbone.
    """
    kinds = by_kind(runs)
    baselines = {kind: same for kind, same in kinds.items() if kind.method == BASELINE}
    references = [kind for kind in baselines if len(baselines) == 1 or not OFF.keys() & dict(kind.settings).keys()]
    baseline = baselines[references[0]] if len(references) == 1 else []
    rows = []
    for kind, same in kinds.items():
        run_gaps, gaps = _gaps(same, baseline)
        rows.append(MethodRow(label(kind, kinds), tuple(same), run_gaps, gaps))
    notes = [*unsaid(kinds), *_gap_notes(rows, len(baselines), has_reference=bool(baseline)), *remarks(runs)]
    return MethodComparison(runs[0].arch, runs[0].split, tuple(runs[0].errors), tuple(rows), tuple(notes))


def _gaps(runs: Sequence[Run], baseline: Sequence[Run]) -> tuple[tuple[float | None, ...], tuple[float, ...]]:
    """Returns the gap per run, and the samples of the gap."""
    if not baseline:
        return (None,) * len(runs), ()
    if runs is baseline:
        return (0.0,) * len(runs), (0.0,) * len(runs)
    of_seed = _mean_by_seed(baseline)
    found = tuple(run.error(None) - of_seed[run.seed] if run.seed in of_seed else None for run in runs)
    paired = tuple(gap for gap in found if gap is not None)
    unpaired = fmean(run.error(None) for run in runs) - fmean(run.error(None) for run in baseline)
    return found, paired or (unpaired,)


def _mean_by_seed(runs: Iterable[Run]) -> Mapping[int, float]:
    seeds: dict[int, list[float]] = {}
    for run in runs:
        seeds.setdefault(run.seed, []).append(run.error(None))
    return {seed: fmean(errors) for seed, errors in seeds.items()}


def _gap_notes(rows: Iterable[MethodRow], baselines: int, *, has_reference: bool) -> list[str]:
    if not has_reference:
        found = "none is" if baselines == 0 else f"{baselines} settings of them are"
        return [f"no gap: it is to individual networks of these tasks (method={BASELINE}), and {found} among the runs"]
    notes = []
    if baselines > 1:
        notes.append(f"gap: to {BASELINE} networks with nothing beyond the paper, of {baselines} settings of them")
    for row in rows:
        seeds = sorted({run.seed for run, gap in zip(row.runs, row.run_gaps, strict=True) if gap is not None})
        if not seeds:
            notes.append(
                f"{row.label}: the gap is a difference of means, as there are individual networks of other seeds only"
            )
        elif None in row.run_gaps:
            named = ", ".join(map(str, seeds))
            notes.append(
                f"{row.label}: the gap is over seeds {named} alone, as there are no individual networks of the others"
            )
    return notes
