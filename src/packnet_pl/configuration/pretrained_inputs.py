"""Fills in how the tasks' images are prepared, where that was left open, from the metadata of pretrained weights."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hydra._internal.utils import _locate

from packnet_pl.configuration.packed_source import input_of
from packnet_pl.errors import UsageError

if TYPE_CHECKING:
    from packnet_pl.models.pretrained_inputs import PretrainedInput

__all__ = ["fill_inputs", "pretrained_inputs"]

_STAYING = ("resize", "squash", "interpolation")


def fill_inputs(
    config: dict[str, Any], header: Mapping[str, Any] | None = None, saved: Mapping[str, Any] | None = None
) -> None:
    """Fills in how each task's images are prepared, where left open, from the backbone's pretrained weights.

    Args:
        config: Checked and resolved, as plain objects; changed in place.
        header: Of the packed file that the network comes from, which says it instead.
        saved: The configuration of the run that is resumed: images of the same size stay as they were, also where an
            earlier version, or another one of the library that has the weights, saw to it.

    Raises:
        UsageError: If the weights expect what cannot be done here, and a task leaves it open.
    """
    arch, sequence = config["arch"], config["sequence"]
    _fill_size(arch, (saved or {}).get("arch") or {})
    before = ((saved or {}).get("sequence") or {}).get("tasks") or {}
    for name, task in [*sequence["tasks"].items(), (None, sequence.get("task") or {})]:
        data = task.get("data") or {}
        if data.get("image_size", 0) is None:
            data["image_size"] = arch.get("image_size")
        size, saved_data = data.get("image_size"), (before.get(name) or {}).get("data") or {}
        filled = (pretrained_inputs(arch, size) if header is None else _at_size(input_of(header), size)) or {}
        if saved_data.get("image_size") == (size or filled.get("image_size")):
            filled |= {key: saved_data[key] for key in _STAYING if key in saved_data}
        if header is None and name in sequence.get("order", ()) and data.get("resize", 0) is None:
            _check_possible(arch, size, name)
        data.update({key: value for key, value in filled.items() if key in data and data[key] is None})


def pretrained_inputs(arch: Mapping[str, Any], image_size: int | None = None) -> dict[str, Any] | None:
    """Returns arguments of data sets as the pretrained weights of a backbone expect them; None if there are none.

    A file with weights counts as one of the network's usual ones. Of one channel, mean and std are not known.

    Args:
        arch: Checked and resolved.
        image_size: Height and width in pixels; None are those that the weights were trained on.
    """
    wanted = _expected(arch, image_size)
    if wanted is None:
        return None
    found: dict[str, Any] = {"image_size": wanted.image_size, "interpolation": wanted.interpolation}
    if not wanted.beyond:
        found |= {"resize": wanted.resize, "squash": wanted.squash}
    if arch.get("in_channels", 3) == 3:
        found |= {"mean": list(wanted.mean), "std": list(wanted.std)}
    return found


def _expected(arch: Mapping[str, Any], image_size: int | None) -> "PretrainedInput | None":
    from packnet_pl.models.pretrained_inputs import INPUTS

    ask = INPUTS.get(_locate(arch["_target_"])) if arch.get("_target_") else None
    if ask is None or not arch.get("pretrained") or arch.get("in_channels", 3) not in (1, 3):
        return None
    return ask(arch["name"], arch["pretrained"], image_size)  # if it is None, building says what is wrong


def _check_possible(arch: Mapping[str, Any], size: int | None, task: str) -> None:
    wanted = _expected(arch, size)
    if wanted is not None and wanted.beyond:
        raise UsageError(
            f"arch.pretrained: the weights of {arch['name']} expect images that are {wanted.beyond}, which cannot be "
            f"done here; say what is cut out instead, for example sequence.tasks.{task}.data.resize=0.875"
        )


def _fill_size(arch: dict[str, Any], before: Mapping[str, Any]) -> None:
    """Fills in the size of images that torchvision's network is built for: it has one, where timm's may take any."""
    if not arch.get("_target_") or arch.get("image_size", 0) is not None:
        return
    from packnet_pl.models import torchvision_backbone
    from packnet_pl.models.backbones.torchvision_weights import default_size

    if _locate(arch["_target_"]) is torchvision_backbone:
        arch["image_size"] = before.get("image_size") or default_size(arch["name"], arch.get("pretrained", False))


def _at_size(inputs: dict[str, Any] | None, size: int | None) -> dict[str, Any] | None:
    """Returns the inputs of a packed file for images of another size."""
    known, side = (inputs or {}).get("image_size"), (inputs or {}).get("resize")
    if inputs is None or size in (None, known) or not known or not side:
        return inputs
    return {**inputs, "resize": round(size * side / known)}
