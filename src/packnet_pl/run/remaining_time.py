"""Estimates the time left of a task and of a sequence from the work that is to be done and the time that work took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from packnet_pl.choices import Phase
from packnet_pl.run.plan import RunPlan, Stage

__all__ = ["RemainingTime", "StageWork", "stage_works"]

_FORWARD = 1 / 3  # of the time of an image in training, which has a backward pass too


@dataclass(frozen=True)
class StageWork:
    """The work of one fit, in pixels that are trained on: images times pixels of each.

    Attributes:
        epochs: Phase -> number of epochs, in order.
        train: Training of one epoch.
        val: Validation of one epoch.
        test: Evaluation of all tasks so far, after it.
        images: In a training batch of all processes together.
        trials: How often it is retrained at most before its prune ratio is chosen.
    """

    epochs: Mapping[Phase, int]
    train: float
    val: float
    test: float
    images: int
    trials: int = 0

    def phase(self, phase: Phase) -> float:
        """Returns the work of all epochs of a phase."""
        return self.epochs[phase] * (self.train + self.val)

    def tried(self, count: float) -> float:
        """Returns the work of so many trials of a prune ratio."""
        return count * self.phase("retrain") if count else 0.0

    @property
    def total(self) -> float:
        """The whole work, with as many trials as there may be."""
        return sum(map(self.phase, self.epochs)) + self.tried(self.trials) + self.test


def stage_works(plan: RunPlan) -> list[StageWork]:
    """Returns the work of each fit of a run; none of tasks whose data are not here."""
    works, test = [], 0.0
    # A task that is finished has none any more; it took as much as others will.
    usual = next((stage.last.epochs for stage in reversed(plan.stages) if stage.last.epochs), {})
    for stage in plan.stages:
        sizes = [_pixels(stage, split) for split in ("train", "val", "test")]
        test += (sizes[1] + sizes[2]) * _FORWARD
        splits: list[Any] = [task.data.train for task in stage.tasks if task.data]
        images = sum(map(len, splits))
        batch = min(plan.batch_size // plan.accumulate, images)
        trials = 1 + stage.last.search.trials if stage.last.search else 0
        works.append(StageWork(stage.last.epochs or usual, sizes[0], sizes[1] * _FORWARD, test, batch, trials))
    return works


def _pixels(stage: Stage, split: str) -> float:
    total = 0.0
    for task in stage.tasks:
        if task.data is not None:
            height, width = task.data.input_shape[-2:]
            total += len(getattr(task.data, split)) * height * width
    return total


class RemainingTime:
    """Learns how long work takes: the present phase from itself, later ones from all that is finished.

    Args:
        works: Of all fits, in order.
        finished: Seconds that each of the first fits took before this process began, where they are known.
    """

    def __init__(self, works: Sequence[StageWork], finished: Sequence[float | None] = ()) -> None:
        self._works = works
        known = [(seconds, work.total) for seconds, work in zip(finished, works, strict=False) if seconds]
        self._before = [(seconds, total) for seconds, total in known if total]
        self._measured: list[tuple[float, float]] = []
        self._shares: dict[Phase, list[float]] = {}
        # Of the present search for a prune ratio; and of those that are over, which share of the trials they took.
        self._tried, self._is_chosen = 0, False
        self._trial_shares: list[float] = []
        self._stage, self._stage_begun = 0, 0.0
        self._phase: Phase = "train"
        # Of the present phase: when, and behind which work, it was first looked at; the work by now, and now.
        self._first: tuple[float, float] | None = None
        self._here, self._now = 0.0, 0.0

    def begin_stage(self, number: int, now: float) -> None:
        """Begins a fit at ``now`` seconds of some clock."""
        self._stage, self._stage_begun, self._now = number, now, now
        self._phase, self._first, self._here = "train", None, 0.0
        self._tried, self._is_chosen = 0, False

    def advance(self, phase: Phase, epochs: float, now: float) -> None:
        """Records that so many ``epochs`` of a phase are done, those of before a resume among them."""
        work = self._works[self._stage]
        self._here, self._now = epochs * (work.train + work.val), now
        if phase != self._phase or self._first is None:
            self._phase, self._first = phase, (now, self._here)  # the first batch is warm-up, and is not counted

    def end_phase(self, phase: Phase, epochs: int) -> None:
        """Records how many epochs a phase had, as it may have been stopped early."""
        planned = self._works[self._stage].epochs[phase]
        if planned:
            self._shares.setdefault(phase, []).append(epochs / planned)

    def record_trials(self, count: int) -> None:
        """Records how many trials of prune ratios are done by now in the present fit, by earlier processes too."""
        self._tried = count

    def end_search(self) -> None:
        """Records that the prune ratio is chosen, so that no more trials follow."""
        self._trial_shares.append(self._tried / self._works[self._stage].trials)
        self._is_chosen = True

    def end_stage(self, now: float, *, resumed: bool) -> None:
        """Ends a fit, with its evaluation; one that was resumed says nothing of a whole one."""
        work = self._works[self._stage]
        used = sum(work.phase(phase) * self._shares.get(phase, [1.0])[-1] for phase in work.epochs)
        used += work.tried(self._tried) + work.test
        if used and not resumed:
            self._measured.append((now - self._stage_begun, used))
        self._stage, self._phase, self._first, self._here = self._stage + 1, "train", None, 0.0
        self._tried, self._is_chosen = 0, False

    @property
    def train_share(self) -> float:
        """Share of an epoch's work that is training, in [0, 1]."""
        work = self._works[self._stage]
        return work.train / ((work.train + work.val) or 1.0)

    @property
    def done(self) -> float:
        """Share of the whole sequence's work that is done, in [0, 1]."""
        total = sum(work.total for work in self._works)
        done = sum(work.total for work in self._works[: self._stage])
        if self._stage < len(self._works):
            work = self._works[self._stage]
            done += sum(map(work.phase, self._earlier())) + self._here
            done += work.tried(work.trials if self._is_chosen else self._tried)
        return min(1.0, done / total) if total else 1.0

    def left(self) -> tuple[float, float] | None:
        """Returns the seconds left of the task and of the sequence; None as long as nothing is known."""
        rate = self._rate()
        if rate is None or self._stage >= len(self._works):
            return None
        work, earlier = self._works[self._stage], [*self._earlier(), self._phase]
        left = max(0.0, work.phase(self._phase) - self._here) + work.test
        left += sum(work.phase(phase) * self._share(phase) for phase in work.epochs if phase not in earlier)
        if not self._is_chosen:
            left += work.tried(max(0.0, self._trials(work) - self._tried))
        known = self._measured or self._before
        later = sum(seconds for seconds, _ in known) / sum(total for _, total in known) if known else rate
        return left * rate, left * rate + later * sum(map(self._expected, self._works[self._stage + 1 :]))

    def _earlier(self) -> list[Phase]:
        return list(takewhile(lambda phase: phase != self._phase, self._works[self._stage].epochs))

    def _expected(self, work: StageWork) -> float:
        phases = sum(work.phase(phase) * self._share(phase) for phase in work.epochs)
        return phases + work.tried(self._trials(work)) + work.test

    def _trials(self, work: StageWork) -> float:
        """Returns how many trials a task is expected to need: as earlier ones did."""
        shares = self._trial_shares
        return work.trials * (sum(shares) / len(shares) if shares else 1.0)

    def _share(self, phase: Phase) -> float:
        found = self._shares.get(phase, [])
        return sum(found) / len(found) if found else 1.0

    def _rate(self) -> float | None:
        """Returns the seconds per work of the present phase, or of what is known best before it has been measured."""
        if self._first is not None and self._here > self._first[1] and self._now > self._first[0]:
            present: float = (self._now - self._first[0]) / (self._here - self._first[1])
            return present
        known = self._measured or self._before
        return sum(seconds for seconds, _ in known) / sum(total for _, total in known) if known else None
