"""A data set: stripes along the rows, or along the columns."""

import torch

from packnet_pl.data import TaskData
from packnet_pl.data.task_data import ImageDataset, image_tensors


def stripes(*, num_images: int = 60) -> TaskData:
    """Returns two classes of grey images, 24 x 24 pixels with noise.

    Args:
        num_images: Of each split.
    """
    generator = torch.Generator().manual_seed(0)

    def split() -> ImageDataset:
        labels = torch.arange(num_images) % 2
        rows = (torch.arange(24) // 3 % 2 * 255).repeat(24, 1).t()
        images = torch.where(labels.view(-1, 1, 1) == 0, rows, rows.t()).float()
        images += 40 * torch.randn(images.shape, generator=generator)
        return image_tensors(images.clamp(0, 255).to(torch.uint8), labels, 0.5, 0.5)

    return TaskData(split(), split(), split(), ("rows", "columns"), (1, 24, 24), (0.5,), (0.5,))
