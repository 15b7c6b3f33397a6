"""Input size, mean and standard deviation of the tasks' images from the metadata of pretrained weights."""

from collections.abc import Mapping
from typing import Any

from hydra._internal.utils import _locate

from packnet_pl.configuration.packed_source import input_of

__all__ = ["fill_inputs", "pretrained_inputs"]


def fill_inputs(config: dict[str, Any], header: Mapping[str, Any] | None = None) -> None:
    """Fills in size, mean and std of each task's images, where left open, from the backbone's pretrained weights.

    Args:
        config: Checked and resolved, as plain objects; changed in place.
        header: Of the packed file that the network comes from, which says it instead.
    """
    filled = pretrained_inputs(config["arch"]) if header is None else input_of(header)
    sequence = config["sequence"]
    for task in [*sequence["tasks"].values(), sequence.get("task") or {}]:
        data = task.get("data") or {}
        data.update({key: value for key, value in (filled or {}).items() if key in data and data[key] is None})


def pretrained_inputs(arch: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns arguments of data sets as the pretrained weights of a backbone expect them; None if there are none.

    A file with weights counts as one of the network's usual ones.

    Args:
        arch: Checked and resolved.
    """
    from packnet_pl.models.pretrained_inputs import INPUTS

    ask = INPUTS.get(_locate(arch["_target_"])) if arch.get("_target_") else None
    if ask is None or not arch.get("pretrained") or arch.get("in_channels", 3) != 3:
        return None
    wanted = ask(arch["name"], arch["pretrained"])
    if wanted is None:
        return None  # building it says what is wrong
    return {"image_size": wanted.image_size, "mean": list(wanted.mean), "std": list(wanted.std)}
