"""Mixes the images of a batch, and their labels to match: mixup and cutmix."""

from collections.abc import Callable

from torch import Tensor

__all__ = ["Mixing", "batch_mixing"]

Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From images (N x C x H x W) and class indices (N) to as many images, and probabilities (N x classes)."""


def batch_mixing(num_classes: int, *, mixup: float = 0.0, cutmix: float = 0.0) -> Mixing | None:
    """Returns torchvision's mixup or cutmix; of both one is drawn for each batch; of neither None.

    A batch is mixed with itself, moved on by one image; all numbers are drawn with torch's generator on the CPU.

    Args:
        num_classes: Of the task.
        mixup: Alpha of the Beta(alpha, alpha) that shares are drawn from, 0 for none. Low ones leave most images nearly
            as they are.
        cutmix: The same, of the area that is cut out.
    """
    if not (mixup or cutmix):
        return None
    # Seconds to import, and only this needs it.
    from torchvision.transforms import v2

    chosen: list[Mixing] = []
    if mixup:
        chosen.append(v2.MixUp(alpha=mixup, num_classes=num_classes))
    if cutmix:
        chosen.append(v2.CutMix(alpha=cutmix, num_classes=num_classes))
    return chosen[0] if len(chosen) == 1 else v2.RandomChoice(chosen)
