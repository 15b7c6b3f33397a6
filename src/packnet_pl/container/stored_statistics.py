"""Checks the tensors of statistics of features in a packed file: for each task all of them, or none."""

import re
from collections.abc import Mapping
from typing import Any

from packnet_pl.container.table import Stored
from packnet_pl.counting import counted
from packnet_pl.text import brief, named

__all__ = ["PREFIX", "check_statistics"]

PREFIX = "which/"
_NAME = re.compile("which/(0|[1-9][0-9]{0,2})/(means|directions|variances|scale)")
_PARTS = 4
_SHORT = ("float16", "float32")


def check_statistics(header: Mapping[str, Any], stored: Mapping[str, Stored]) -> None:
    """Checks names, types and shapes of all tensors below ``which/``.

    Args:
        header: Checked.
        stored: Name -> entry of the table; heads are checked.

    Raises:
        ValueError: If one is not what docs/format.md says, or a task has some of them and not the others.
    """
    found: dict[int, dict[str, Stored]] = {}
    for name, of in stored.items():
        if name.startswith(PREFIX):
            match = _NAME.fullmatch(name)
            if match is None or int(match[1]) >= len(header["tasks"]):
                raise ValueError(f"{named(name)} belongs to nothing: it has {counted(len(header['tasks']), 'task')}")
            found.setdefault(int(match[1]), {})[match[2]] = of
    features = stored["heads/0/weight"].shape[1]
    for number, parts in found.items():
        task = header["tasks"][number]
        if len(parts) != _PARTS or not _fit(parts, features, task["num_classes"]):
            shapes = {part: f"{of.dtype} {list(of.shape)}" for part, of in sorted(parts.items())}
            raise ValueError(
                f"the statistics of task {brief(task['name'])} are {brief(shapes)}, which go with no {features} "
                f"features and {task['num_classes']} classes"
            )


def _fit(parts: Mapping[str, Stored], features: int, classes: int) -> bool:
    means, directions, variances, scale = (parts[key] for key in ("means", "directions", "variances", "scale"))
    return (
        means.dtype in _SHORT
        and directions.dtype in _SHORT
        and variances.dtype == scale.dtype == "float32"
        and len(means.shape) == len(directions.shape) == 2
        and means.shape[1] == directions.shape[1] == features
        and 1 <= means.shape[0] <= classes
        and 1 <= directions.shape[0] <= features
        and variances.shape == (directions.shape[0] + 1,)
        and scale.shape == (2,)
    )
