"""Input size, mean and standard deviation of the tasks' pictures from the metadata of pretrained weights."""

from typing import Any

from hydra._internal.utils import _locate

__all__ = ["fill_inputs"]


def fill_inputs(config: dict[str, Any]) -> None:
    """Gives each task's data, where they leave them open, what the backbone's pretrained weights expect.

    A file with weights counts as one of the network's usual ones.

    Args:
        config: Checked and resolved, as plain objects; changed in place.
    """
    from packnet_pl.models.inputs import INPUTS

    arch = config["arch"]
    ask = INPUTS.get(_locate(arch["_target_"])) if arch.get("_target_") else None
    if ask is None or not arch.get("pretrained") or arch.get("in_channels", 3) != 3 or config.get("packed"):
        return
    wanted = ask(arch["name"], arch["pretrained"])
    if wanted is None:
        return  # building it says what is wrong
    filled = {"image_size": wanted.image_size, "mean": list(wanted.mean), "std": list(wanted.std)}
    for task in config["sequence"]["tasks"].values():
        data = task["data"]
        data.update({key: value for key, value in filled.items() if key in data and data[key] is None})
