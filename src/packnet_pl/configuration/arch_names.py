"""``arch=resnet50`` and ``arch=timm/NAME``: networks by name, as configurations that Hydra itself knows.

They lie in Hydra's config store, so a name works wherever a choice does: on a command line, in a sweep, in a defaults
list, with ``hydra.compose``. Importing ``packnet_pl.conf`` puts them there; Hydra imports it before it looks for any.
"""

from typing import Any

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import OmegaConf

from packnet_pl.errors import UsageError

__all__ = ["TORCHVISION", "check_network", "short_names", "store_networks"]

TORCHVISION = (
    *("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
    *("densenet121", "densenet161", "densenet169", "densenet201"),
    *("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14"),
    *("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
    *("alexnet", "squeezenet1_0", "squeezenet1_1", "googlenet", "inception_v3", "maxvit_t"),
    *("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"),
    *("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
    *("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3"),
    *("efficientnet_b4", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7"),
    *("efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l"),
    *("regnet_x_400mf", "regnet_x_800mf", "regnet_x_1_6gf", "regnet_x_3_2gf", "regnet_x_8gf", "regnet_x_16gf"),
    *("regnet_x_32gf", "regnet_y_400mf", "regnet_y_800mf", "regnet_y_1_6gf", "regnet_y_3_2gf", "regnet_y_8gf"),
    *("regnet_y_16gf", "regnet_y_32gf", "regnet_y_128gf"),
    *("swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b"),
)
"""What ``torchvision_backbone`` takes, written down: asking torchvision would import torch."""

_GROUP, _BUILDERS = "arch", ("torchvision", "timm")


def store_networks() -> None:
    """Makes each network a choice of the group ``arch``."""
    store = ConfigStore.instance()
    for name in TORCHVISION:
        store.store(name, _named(name, "torchvision"), group=_GROUP, provider="packnet_pl")
    store.repo[_GROUP].setdefault("timm", _TimmNetworks())


def check_network(choice: str | None, name: str | None) -> None:
    """Refuses a configuration whose network is not the one that was chosen by its name.

    Args:
        choice: Of the group ``arch``.
        name: ``arch.name`` of the whole configuration.

    Raises:
        UsageError: If a configuration that comes later, an experiment say, puts another name over the chosen one.
    """
    chosen = choice if choice in TORCHVISION else (choice or "").partition("timm/")[2]
    if chosen and name != chosen:
        raise UsageError(
            f"arch={choice} was chosen, but a configuration sets arch.name to {name!r}; let that one say "
            f"'override /arch: {name}' in its defaults list instead, or add arch.name={chosen}"
        )


def short_names(overrides: list[str]) -> list[str]:
    """Writes ``arch=torchvision arch.name=resnet50`` in the overrides as ``arch=resnet50``, its equivalent.

    Args:
        overrides: Also those of runs of version 0.1, which saved the longer form.
    """
    found = dict(override.partition("=")[::2] for override in overrides)
    builder, name = found.get("arch"), found.get("arch.name")
    if builder not in _BUILDERS or name is None:
        return overrides
    short = f"arch={name}" if builder == "torchvision" else f"arch=timm/{name}"
    rest = [override for override in overrides if override.partition("=")[0] not in ("arch", "arch.name")]
    return [*rest, short]


def _named(name: str, builder: str) -> dict[str, Any]:
    return {"defaults": [f"/{_GROUP}/{builder}@_here_"], "name": name}


class _TimmNetworks(dict[str, ConfigNode]):
    """The folder ``arch/timm`` of the config store, which has every name; timm itself refuses unknown ones later.

    timm has more than a thousand networks, and takes seconds to import.
    """

    def __contains__(self, file: object) -> bool:
        return isinstance(file, str) and file.endswith(".yaml")

    def __getitem__(self, file: str) -> ConfigNode:
        node = OmegaConf.create(_named(file.removesuffix(".yaml"), "timm"))
        return ConfigNode(file, node, f"{_GROUP}/timm", None, "packnet_pl")
