"""Continues the ``metrics.csv`` of a resumed fit behind the rows that its checkpoint knows."""

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from packnet_pl.files import replacing

__all__ = ["MetricsFile", "read_metrics"]

MetricsRow = tuple[int, dict[str, float]]
"""A step, and what was measured there."""


def read_metrics(path: Path) -> list[MetricsRow]:
    """Returns the rows of a ``metrics.csv``, in order: step, and metric -> value; none if there is no file.

    Values are the very floats that were written; a row that was cut off, or is no row of numbers, is left out.
    """
    rows = []
    for row in _read(path):
        with suppress(ValueError, OverflowError, KeyError):
            values = {name: float(value) for name, value in row.items() if name and value}
            rows.append((int(values.pop("step")), values))
    return rows


class MetricsFile(ExperimentWriter):
    """The writer of a CSVLogger; Lightning's own one begins the file anew.

    A process that is killed leaves rows without their end at most, and never a file without its earlier rows.

    Args:
        log_dir: Folder of the file; it is made.

    Attributes:
        num_rows: Rows so far, with those that are not in the file yet.
    """

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir=log_dir)
        self._path = Path(self.metrics_file_path)
        self.num_rows = 0

    def keep_first(self, count: int) -> None:
        """Keeps the first ``count`` rows of the existing file, and drops the others."""
        self._begin_with(_read(self._path)[:count])

    def keep_before(self, step: int) -> None:
        """Keeps the rows of steps before ``step``, for a checkpoint that does not count rows."""
        self._begin_with(
            [row for row in _read(self._path) if row.get("step", "").isdigit() and int(row["step"]) < step]
        )

    def kept(self) -> list[MetricsRow]:
        """Returns the rows that are in the file, in order."""
        return read_metrics(self._path)

    def log_metrics(self, metrics_dict: dict[str, float], step: int | None = None) -> None:
        """Adds a row."""
        super().log_metrics(metrics_dict, step)
        self.num_rows += 1

    def _begin_with(self, rows: Sequence[dict[str, str]]) -> None:
        # A column that only forgotten rows have comes again with them, if it does.
        self.metrics, self.num_rows = [], len(rows)
        self.metrics_keys = sorted({name for row in rows for name, value in row.items() if value})
        if rows:
            self._replace(rows, self.metrics_keys)
        else:
            self._path.unlink(missing_ok=True)

    def _check_log_dir_exists(self) -> None:
        """Deletes nothing, and warns of nothing."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self._replace(_read(self._path), fieldnames)

    def _replace(self, rows: Sequence[dict[str, str]], names: list[str]) -> None:
        with replacing(self._path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)


def _read(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a file, without a last one that was cut off; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        text = file.read()
    return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))
