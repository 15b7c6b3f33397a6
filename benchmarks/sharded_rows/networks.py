"""Networks that are divided among processes: a vision transformer without its patches, and ResNet-18. Torch only."""

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from speed_rows.networks import batch_of, build

__all__ = ["Transformer", "batch_for", "build_shared", "shard_"]

_PATCH = 48


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, width // 64, batch_first=True)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.before(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.down(nn.functional.gelu(self.up(self.after(x))))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Blocks as a vision transformer has them: 12 times width x width weights in each.

    Args:
        width: A multiple of 64.
        depth: Number of blocks.
    """

    def __init__(self, width: int = 384, depth: int = 6) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Linear(_PATCH, width), nn.ModuleList([_Block(width) for _ in range(depth)])

    def forward(self, x: Tensor) -> Tensor:
        """Returns the mean over positions (batch x width) of patches (batch x positions x 48)."""
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return x.mean(1)


def build_shared(arch: str) -> nn.Module:
    """Returns a shared part with random weights from seed 0: "tiny", "transformer" or "resnet18"."""
    torch.manual_seed(0)
    if arch in {"tiny", "transformer"}:
        return Transformer(64, 2) if arch == "tiny" else Transformer()
    return build(arch)[0]


def batch_for(arch: str, size: int) -> Tensor:
    """Returns what one process computes with: sequences of 128 patches (8 of them if tiny), or images of 64 pixels."""
    if arch == "resnet18":
        return batch_of(size)[0]
    return torch.randn(size, 8 if arch == "tiny" else 128, _PATCH, generator=torch.Generator().manual_seed(1))


def shard_(network: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Divides a network among the processes of ``mesh``, block by block; returns it."""
    if isinstance(network, Transformer):
        blocks = list(network.blocks)
    else:
        blocks = [block for stage in network.children() if isinstance(stage, nn.Sequential) for block in stage]
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    return network
