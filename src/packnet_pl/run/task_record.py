"""Records each finished task in a file of its own, from which ``results.json`` is put together."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from packnet_pl.container import open_packed
from packnet_pl.files import replacing
from packnet_pl.names import mended_class_names
from packnet_pl.run.metrics import Scores
from packnet_pl.run.results import TaskResult
from packnet_pl.run_directory import journal_path, packed_path

__all__ = ["DamagedRunError", "Entry", "read_entries"]

_log = logging.getLogger(__name__)


class DamagedRunError(ValueError):
    """A run directory lacks what the run cannot do without."""


@dataclass(frozen=True)
class Entry:
    """The record of one finished task.

    Attributes:
        task: Its figures.
        scores: Scores of all tasks so far, right after it was finished; none if others were learned with it, and come
            after it.
        val_now: Likewise, accuracy on their validation splits, in [0, 1]; None where the data are not here.
        data: Likewise, what their splits held: task -> split -> a SplitInventory as a dict.
        outputs_unchanged: Likewise, whether their probes' logits were the same bits; None without a probe.
    """

    task: TaskResult
    scores: dict[str, Scores]
    outputs_unchanged: list[bool | None]
    val_now: dict[str, float | None]
    data: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def dump(self) -> dict[str, Any]:
        """Returns it as JSON."""
        return asdict(self)

    @classmethod
    def parse(cls, dumped: Mapping[str, Any]) -> "Entry":
        """Reads what :meth:`dump` wrote.

        Raises:
            ValueError: If it is something else.
        """
        try:
            scores = {
                task: Scores(tuple(found["right"]), found["among_five"], tuple(found["pictures"]))
                for task, found in dumped["scores"].items()
            }
            # Files of earlier versions have neither.
            val_now, data = dict(dumped.get("val_now", {})), dict(dumped.get("data", {}))
            # Which also let two classes have one name; the packed file mends that in the same way.
            names = {"class_names": list(mended_class_names(dumped["task"]["class_names"]))}
            return cls(
                TaskResult(**{**dumped["task"], **names}), scores, list(dumped["outputs_unchanged"]), val_now, data
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the record of a finished task: {error}") from error

    def write(self, path: Path) -> None:
        """Replaces ``path`` as a whole."""
        text = json.dumps(self.dump(), indent=1, allow_nan=False, ensure_ascii=False)
        with replacing(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Entry":
        """Reads what :meth:`write` wrote.

        Raises:
            ValueError: If it is damaged, or not there.
        """
        try:
            return cls.parse(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, OSError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error


def read_entries(folder: Path, names: Sequence[str]) -> list[Entry]:
    """Returns the records of the finished tasks ``names`` of a run, in order.

    A file that cannot be read is named in a warning; the packed file has the same, but for the seconds it took.

    Args:
        folder: The run directory.
        names: Of the finished tasks.

    Raises:
        DamagedRunError: If neither has it.
    """
    entries = []
    for name in names:
        try:
            entries.append(Entry.read(journal_path(folder, name)))
        except ValueError as error:
            entries.append(_from_packed(folder, name, error))
            _log.warning("%s; what the packed file tells of it is used", error)
    return entries


def _from_packed(folder: Path, name: str, reason: ValueError) -> Entry:
    try:
        history = [Entry.parse(dumped) for dumped in open_packed(packed_path(folder)).history]
    except (ValueError, OSError):
        history = []
    for entry in history:
        if entry.task.name == name:
            return entry
    raise DamagedRunError(
        f"{reason}; {packed_path(folder)} does not tell how well {name!r} does either: put one of them back from a "
        "copy, or start a new run in another hydra.run.dir"
    ) from reason
