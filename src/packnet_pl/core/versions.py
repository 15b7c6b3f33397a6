"""Versions of tensors, by which it is seen that something has replaced them or written to them."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from packnet_pl.core.shards import is_shard, own_part

__all__ = ["Versions", "version_of"]


class Versions:
    """Notes tensors and their versions by name; inference tensors have none, and may always have been written to.

    Args:
        tensors: Name -> tensor, as it is now.
    """

    def __init__(self, tensors: Mapping[str, Tensor | None]) -> None:
        self._seen: dict[str, tuple[Tensor | None, int | None]] = {}
        self.note(tensors.items())

    def note(self, tensors: Iterable[tuple[str, Tensor | None]]) -> None:
        """Notes them as they are now."""
        self._seen.update({name: (tensor, version_of(tensor)) for name, tensor in tensors})

    def __getitem__(self, name: str) -> tuple[Tensor | None, int | None]:
        """The tensor that was noted last, and its version then."""
        return self._seen[name]

    def was_written(self, name: str, tensor: Tensor | None) -> bool:
        """Returns whether ``tensor`` may have been replaced or written to since it was noted."""
        before, version = self._seen[name]
        return before is not tensor or version is None or version != version_of(tensor)


def version_of(tensor: Tensor | None) -> int | None:
    """Returns how often ``tensor`` was written to, as far as torch has seen it; None for inference tensors.

    Optimizers write to a sharded tensor, and other code to the part that this process has: each counts for itself.
    """
    if tensor is None:
        return None
    try:
        return tensor._version + (own_part(tensor)._version if is_shard(tensor) else 0)
    except RuntimeError:  # asked beforehand, is_inference() takes longer than the version
        return None
