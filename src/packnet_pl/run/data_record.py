"""Records the data that a task was trained on, in a file of its own, and compares other data with it."""

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from packnet_pl.data import TaskData
from packnet_pl.data.inventory import Inventory, list_files
from packnet_pl.files import replacing
from packnet_pl.names import shown
from packnet_pl.run_directory import data_record_path

__all__ = ["DataRecord", "differing_data", "keep_data_record", "read_data_record"]


@dataclass(frozen=True)
class DataRecord:
    """The data that a task was trained on, or last tested on.

    Attributes:
        inventory: Of its splits.
        files: Split -> a line per image, of splits that read them from files; see
            :func:`packnet_pl.data.inventory.list_files`. None if nobody noted them.
    """

    inventory: Inventory
    files: Mapping[str, Sequence[str]] | None


def keep_data_record(folder: Path, task: str, data: TaskData) -> None:
    """Records ``data`` in the run directory ``folder``, unless the record is there already."""
    before = read_data_record(folder, task)
    if before is not None and before.inventory == data.inventory:
        return
    files = list_files(data.splits)
    # ASCII: names of files may be no Unicode.
    text = json.dumps({"inventory": asdict(data.inventory), "files": files})
    with replacing(data_record_path(folder, task)) as temporary:
        # Without a time: two runs of the same leave the same bytes.
        temporary.write_bytes(gzip.compress(text.encode(), compresslevel=1, mtime=0))


def read_data_record(folder: Path, task: str) -> DataRecord | None:
    """Returns the record of ``task``; None if it is missing, as in runs of earlier versions, or unreadable."""
    try:
        # Python's own decoder: msgspec's takes no names of files that are no Unicode.
        found = json.loads(gzip.decompress(data_record_path(folder, task).read_bytes()))
        return msgspec.convert(found, DataRecord)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError):
        return None


def differing_data(before: DataRecord, data: TaskData, splits: Sequence[str]) -> str | None:
    """Returns how data differ, as the end of a sentence; None if they do not.

    Args:
        before: What was noted.
        data: The data now.
        splits: Those that count.
    """
    then, now = before.inventory.splits, data.inventory.splits
    changed = [name for name in splits if name in then and name in now and then[name] != now[name]]
    if not changed:
        return None
    counts = ", ".join(f"{name} has {now[name].images:,} images instead of {then[name].images:,}" for name in changed)
    same = all(now[name].images == then[name].images for name in changed)
    message = f"{' and '.join(changed)}: as many images, but not the same" if same else counts
    files = _differing_files(before.files, list_files(data.splits)) if before.files else ""
    return message + (f" ({files})" if files else "")


def _differing_files(then: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]) -> str:
    old, new = _by_path(then), _by_path(now)
    kinds = {
        "gone": [path for path in old if path not in new],
        "new": [path for path in new if path not in old],
        "of another size, class or box": [path for path in old if path in new and old[path][1] != new[path][1]],
        "in another split": [path for path in old if path in new and old[path][0] != new[path][0]],
    }
    if kinds["gone"] or kinds["new"]:
        kinds.pop("in another split")  # validation is cut from train: others are chosen then
    return "; ".join(
        f"{kind}: {len(paths):,}, the first is {shown(min(paths))}" for kind, paths in kinds.items() if paths
    )


def _by_path(files: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, str]]:
    """Returns path -> split, and the rest of its line."""
    found = {}
    for split, lines in files.items():
        for line in lines:
            *rest, path = line.split(" ", 3)
            found[path] = (split, " ".join(rest))
    return found
