"""``arch=resnet50`` and ``arch=timm/NAME``: backbones by name, without a configuration file for each."""

import re
from importlib.resources import files

__all__ = ["TORCHVISION", "rewrite_arch"]

TORCHVISION = (
    r"vgg(11|13|16|19)(_bn)?|resnet(18|34|50|101|152)|wide_resnet(50|101)_2|resnext(50_32x4d|101_(32x8d|64x4d))"
    r"|densenet(121|161|169|201)|vit_(b|l)_(16|32)|vit_h_14|convnext_(tiny|small|base|large)"
)
"""Names of the families of torchvision's classification networks that can be wrapped."""


def rewrite_arch(override: str) -> list[str]:
    """Returns the overrides that ``override`` stands for.

    ``arch=resnet50`` is ``arch=torchvision arch.name=resnet50``, and ``arch=timm/efficientnet_b0`` is
    ``arch=timm arch.name=efficientnet_b0``; everything else stays as it is, also a list of backbones for a sweep, and a
    name for which there is a configuration.
    """
    key, _, value = override.partition("=")
    if key != "arch" or (files("packnet_pl.conf") / "arch" / f"{value}.yaml").is_file():
        return [override]
    if re.fullmatch(TORCHVISION, value):
        return ["arch=torchvision", f"arch.name={value}"]
    found = re.fullmatch(r"timm/([\w./-]+)", value)
    return ["arch=timm", f"arch.name={found.group(1)}"] if found else [override]
