"""Warnings of frozen buffers that a layer writes to in its forward pass."""

import warnings
from collections.abc import Mapping

from torch import nn

from packnet_pl.core.slots import Slot

__all__ = ["BufferWarnings"]


class BufferWarnings:
    """Warns once for each kind of layer, with the first name: one layer may have many buffers, and many twins."""

    def __init__(self) -> None:
        self._warned: set[type[nn.Module]] = set()

    def in_training(self, written: Mapping[str, Slot]) -> None:
        """Warns of buffers that were restored while a task is trained.

        Args:
            written: Name -> slot.
        """
        advice = (
            "if the layer changes it in training mode only, keep that layer in eval mode after the first task, so that "
            "it computes with what will be kept"
        )
        self._warn(written, "while a later task is trained", advice)

    def between_tasks(self, written: Mapping[str, Slot]) -> None:
        """Warns of buffers that were restored while no task is open; ``written`` as above."""
        self._warn(written, "in a forward pass outside a fit", "ask finished tasks inside subnetwork()")

    def forget(self) -> None:
        """Forgets what was warned of, so that it is warned of again."""
        self._warned = set()

    def _warn(self, written: Mapping[str, Slot], when: str, advice: str) -> None:
        for kind, names in _by_kind(written).items():
            if kind in self._warned:
                continue
            self._warned.add(kind)
            more = f" (like {len(names) - 1} more of {kind.__name__})" if len(names) > 1 else ""
            warnings.warn(
                f"{names[0]}{more} is a buffer that its layer changes {when}. Finished tasks use it, so it is put back "
                f"each time; {advice}",
                stacklevel=8,  # whoever called PackNet.restore_()
            )


def _by_kind(written: Mapping[str, Slot]) -> dict[type[nn.Module], list[str]]:
    """Returns kind of layer -> names: of layers inside one another, the outermost counts."""
    layers = {name.rpartition(".")[0]: slot.layer for name, slot in written.items()}
    groups: dict[type[nn.Module], list[str]] = {}
    for name in written:
        parts = name.split(".")[:-1]
        prefixes = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
        outermost = next((prefix for prefix in prefixes if prefix in layers), "")
        groups.setdefault(type(layers[outermost]), []).append(name)
    return groups
