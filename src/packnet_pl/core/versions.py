"""Versions of tensors, by which it is seen that something has replaced them or written to them."""

from collections.abc import Iterable, Mapping

from torch import Tensor

__all__ = ["Versions"]


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
        self._seen.update({name: (tensor, _version(tensor)) for name, tensor in tensors})

    def __getitem__(self, name: str) -> tuple[Tensor | None, int | None]:
        """The tensor that was noted last, and its version then."""
        return self._seen[name]

    def was_written(self, name: str, tensor: Tensor | None) -> bool:
        """Returns whether ``tensor`` may have been replaced or written to since it was noted."""
        before, version = self._seen[name]
        return before is not tensor or version is None or version != _version(tensor)


def _version(tensor: Tensor | None) -> int | None:
    if tensor is None:
        return None
    try:
        return tensor._version
    except RuntimeError:  # asked beforehand, is_inference() takes longer than the version
        return None
