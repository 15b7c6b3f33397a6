"""A backbone: one convolution."""

import torch
from torch import Tensor, nn


class OneLayer(nn.Module):
    """One convolution and the mean over the image.

    Args:
        width: Output channels of the convolution.
    """

    def __init__(self, *, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 5)
        self.num_features = width

    def forward(self, images: Tensor) -> Tensor:
        """Returns features (N x ``width``) of grey images."""
        return torch.relu(self.conv(images)).mean((2, 3))
