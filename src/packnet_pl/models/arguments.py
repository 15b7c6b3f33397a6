"""Checks of arguments that all backbones built by name share: channels and patches."""

__all__ = ["check_grid", "check_in_channels", "check_patches"]


def check_in_channels(in_channels: int, *, pretrained: bool) -> None:
    """Checks that the first layer can take so many channels.

    Raises:
        ValueError: If there are fewer than 1, or pretrained filters cannot be turned into filters for so many.
    """
    if in_channels < 1:
        raise ValueError(f"in_channels is {in_channels}; allowed is 1 or more")
    if pretrained and in_channels not in (1, 3):
        raise ValueError(
            f"in_channels is {in_channels}; pretrained filters fit 3 channels, or 1 by their sum: "
            "convert the images, or set pretrained=False"
        )


def check_patches(name: str, image_size: int, patch_size: int) -> None:
    """Checks that images can be cut into whole patches.

    Raises:
        ValueError: If ``image_size`` is not a multiple of ``patch_size``, both in pixels.
    """
    _check_multiple(image_size, patch_size, f"{name} cuts patches of {patch_size} x {patch_size} pixels")


def check_grid(name: str, image_size: int, grid: int) -> None:
    """Checks that each of a network's feature maps can be divided into its windows.

    Raises:
        ValueError: If ``image_size`` is not a multiple of ``grid``, both in pixels.
    """
    _check_multiple(image_size, grid, f"{name} divides images into windows and grids, for {grid} x {grid} pixels")


def _check_multiple(image_size: int, step: int, why: str) -> None:
    if image_size % step or image_size < step:
        below = image_size // step * step
        allowed = f"{below} or {below + step}" if below else f"{step}"
        raise ValueError(f"image_size is {image_size}; {why}: allowed are multiples of that, the nearest is {allowed}")
