"""Images become the tensors that torchvision makes of them, to the bit, at prediction without torchvision."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from packnet_pl.data.policies import POLICIES
from packnet_pl.data.processing import AUGMENTATIONS, Processing, augmentation
from packnet_pl.data.to_tensor import resized
from packnet_pl.preparation import Preparation

BY_POLICY = {
    "trivial": v2.TrivialAugmentWide,
    "rand": v2.RandAugment,
    "auto": v2.AutoAugment,
    "augmix": v2.AugMix,
}


def by_torchvision(how, augment):
    """The same steps, all of them torchvision's."""
    augment, _, policy = augment.partition("+")
    wanted, crop = how.preparation, v2.RandomCrop if "crop" in augment else v2.CenterCrop
    sides = [wanted.shorter_side] * (2 if wanted.squash else 1)
    kernel = v2.InterpolationMode(wanted.interpolation)
    if wanted.shorter_side is None:
        steps = [v2.Resize(list(wanted.size), kernel, antialias=True)]
    else:
        steps = [v2.Resize(sides, kernel, antialias=True), crop(wanted.size)]
    if "flip" in augment:
        steps.append(v2.RandomHorizontalFlip())
    if policy:
        fill = [round(255 * level) for level in how.mean]
        steps.append(BY_POLICY[policy](interpolation=v2.InterpolationMode.BILINEAR, fill=fill))
    divided = [v2.PILToTensor(), lambda pixels: pixels.float() / 255]
    return v2.Compose([*steps, *divided, v2.Normalize([*how.mean], [*how.std])])


@pytest.mark.parametrize("augment", [*AUGMENTATIONS, *(f"flip_crop+{policy}" for policy in POLICIES), "none+rand"])
@pytest.mark.parametrize("colour", ["L", "RGB"])
def test_tensors_are_torchvisions_to_the_bit_and_so_is_what_is_drawn(colour, augment):
    rng = np.random.default_rng(0)
    for seed in range(100):
        shape = (*rng.integers(1, 120, 2), *([3] if colour == "RGB" else []))
        image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        height, width = rng.integers(1, 60, 2).tolist()
        side = None if seed % 3 == 0 else max(height, width) + int(rng.integers(0, 40))
        mean, std = rng.uniform(0.1, 1, (2, len(colour))).tolist()
        interpolation, squash = ("bilinear", "bicubic")[seed % 2], seed % 5 == 0
        wanted = Preparation(colour, (height, width), side, interpolation=interpolation, squash=squash)
        how = Processing(wanted, tuple(mean), tuple(std))
        found = []
        ours = how.transform(augment)
        for transform in (lambda image: ours(resized(image, wanted)), by_torchvision(how, augment)):  # noqa: B023
            torch.manual_seed(seed)
            found.append((transform(image), torch.rand(1)))
        (ours, ours_after), (theirs, theirs_after) = found
        assert (ours.dtype, ours.shape, ours.is_contiguous()) == (theirs.dtype, theirs.shape, True)
        assert torch.equal(ours, theirs)
        assert torch.equal(ours_after, theirs_after)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_alone_comes_after_what_is_usual(policy):
    assert augmentation(policy) == f"flip_crop+{policy}"
    assert augmentation(policy, "flip") == f"flip+{policy}"
    assert augmentation(f"crop+{policy}") == f"crop+{policy}"


@pytest.mark.parametrize("given", ["crop+", "+rand", "rand+crop", "rand+auto", "crop+rand+auto", "Rand", "", None, 1])
def test_what_is_no_augmentation_is_refused_with_all_there_are(given):
    with pytest.raises(ValueError, match=r"augment is .*; there are .*'none'\], and each .*'augmix'\]: flip_crop\+tri"):
        augmentation(given)


def test_an_image_is_read_without_torchvision(tmp_path):
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "a.png")
    program = (
        "import sys; from packnet_pl.data.processing import processing;"
        "shape = tuple(processing(image_size=16).item(sys.argv[1]).shape);"
        "heavy = {'torchvision', 'scipy', 'sklearn', 'matplotlib', 'timm'} & sys.modules.keys();"
        "sys.exit(f'{shape} {heavy}' if heavy or shape != (3, 16, 16) else 0)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.png")], check=True, timeout=120)
