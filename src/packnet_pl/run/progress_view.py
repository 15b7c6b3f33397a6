"""Lays out the progress of a run: four lines on a terminal of any width, or one line of plain text."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

__all__ = ["ProgressView", "time_text"]


@dataclass(frozen=True)
class ProgressView:
    """What is shown at one moment.

    Attributes:
        task: Name of the task.
        number: Of the task, from 1.
        tasks: How many there are.
        phase: "train", "retrain" or "test".
        epoch: The present one, from 1.
        epochs: Of the phase.
        done: Share of the whole sequence that is done, in [0, 1].
        rate: Images per second, or None.
        loss: Of training, smoothed, or None.
        accuracy: On the validation split after the last epoch, in [0, 1], or None.
        left: Seconds left of the task and of the sequence, or None.
    """

    task: str = ""
    number: int = 0
    tasks: int = 0
    phase: str = "train"
    epoch: int = 1
    epochs: int = 0
    done: float = 0.0
    rate: float | None = None
    loss: float | None = None
    accuracy: float | None = None
    left: tuple[float, float] | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields four lines, whatever is known, so that nothing below them moves."""
        if not self.tasks:
            yield from (Text("starting"), Text(), Text(), Text())
            return
        # The last column stays free, where some terminals would begin a new line.
        width = max(20, options.max_width - 1)
        where = f"{self.phase}, epoch {self.epoch} of {self.epochs}" if self.phase != "test" else "test"
        yield _line(f"task {self.number} of {self.tasks}: {self.task}", where, width, "bold")
        bar = Table.grid(expand=False, padding=0)
        bar.add_column(width=width - 6)
        bar.add_column(width=6, justify="right")
        bar.add_row(ProgressBar(total=1.0, completed=self.done, width=width - 6), f"{self.done:.0%}")
        yield bar
        yield _line("  ".join(self._measured()), "", width)
        yield _line(f"left: {self._left()}", "", width, "dim")

    def text(self) -> str:
        """Returns it as one line for a log."""
        parts = [f"{self.task}, {self.phase}: epoch {self.epoch} of {self.epochs}, {self.done:.0%} of all is done"]
        known = (self.rate, self.loss, self.accuracy)
        measured = [
            " ".join(part.split()) for part, value in zip(self._measured(), known, strict=True) if value is not None
        ]
        return f"{', '.join([*parts, *measured])}; left: {self._left()}"

    def _measured(self) -> Iterator[str]:
        rate = "-" if self.rate is None else format(self.rate, ",.0f" if self.rate >= 10 else ".1f")
        yield f"{rate:>7} images/s"
        yield f"loss {'-' if self.loss is None else format(self.loss, '.3f'):>6}"
        yield f"validation accuracy {'-' if self.accuracy is None else format(self.accuracy, '.3f')}"

    def _left(self) -> str:
        if self.left is None:
            return "not known yet"
        task, sequence = map(time_text, self.left)
        return f"{task}, all tasks {sequence}" if self.tasks > 1 else task


def time_text(seconds: float) -> str:
    """Formats a time so that it changes seldom: "25 s", "3 min 20 s", "25 min", "5 h 10 min", "3 days 4 h"."""
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} s"
    if seconds < 600:
        minutes, rest = divmod(10 * round(seconds / 10), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        hours, rest = divmod(5 * round(minutes / 5), 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, hours = divmod(round(minutes / 60), 24)
    return f"{days} days {hours} h" if hours else f"{days} days"


def _line(left: str, right: str, width: int, style: str = "") -> Text:
    """Returns a line of exactly ``width`` characters: what is too long on the left is cut off."""
    text = Text(left, style=style, no_wrap=True, end="\n")
    text.truncate(max(1, width - (len(right) + 2 if right else 0)), overflow="ellipsis", pad=True)
    if right:
        text.append(f"  {right}", style="not bold")
    text.truncate(width, overflow="ellipsis")
    return text
