"""Images become the tensors that torchvision makes of them, to the bit, at prediction without torchvision."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from packnet_pl.data.processing import AUGMENTATIONS, Processing
from packnet_pl.data.to_tensor import resized
from packnet_pl.preparation import Preparation


def by_torchvision(how, augment):
    """The same steps, all of them torchvision's."""
    wanted, crop = how.preparation, v2.RandomCrop if "crop" in augment else v2.CenterCrop
    sides = [wanted.shorter_side] * (2 if wanted.squash else 1)
    kernel = v2.InterpolationMode(wanted.interpolation)
    if wanted.shorter_side is None:
        steps = [v2.Resize(list(wanted.size), kernel, antialias=True)]
    else:
        steps = [v2.Resize(sides, kernel, antialias=True), crop(wanted.size)]
    if "flip" in augment:
        steps.append(v2.RandomHorizontalFlip())
    divided = [v2.PILToTensor(), lambda pixels: pixels.float() / 255]
    return v2.Compose([*steps, *divided, v2.Normalize([*how.mean], [*how.std])])


@pytest.mark.parametrize("augment", AUGMENTATIONS)
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


def test_an_image_is_read_without_torchvision(tmp_path):
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "a.png")
    program = (
        "import sys; from packnet_pl.data.processing import processing;"
        "shape = tuple(processing(image_size=16).item(sys.argv[1]).shape);"
        "heavy = {'torchvision', 'scipy', 'sklearn', 'matplotlib', 'timm'} & sys.modules.keys();"
        "sys.exit(f'{shape} {heavy}' if heavy or shape != (3, 16, 16) else 0)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.png")], check=True, timeout=120)
