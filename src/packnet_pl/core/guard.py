"""What keeps the shared module still while a task is open."""

import warnings
from collections.abc import Iterable, Mapping

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from packnet_pl.core.freezing import Hold
from packnet_pl.core.norms import is_norm, keep_in_eval_mode, layers_with_statistics
from packnet_pl.core.prunable import Inventory, Place, PrunableFilter, take_inventory

__all__ = ["Guard"]


class Guard:
    """Finds the tensors of the shared module by name, and holds those that the open task may not change.

    Args:
        module: The shared module.
        prunable: Narrows what may be owned: see :func:`take_inventory`.
        own_norms: Whether each task has norms of its own.
        own_biases: Whether each task has biases of its own.

    Attributes:
        holding: Whether values were taken.
    """

    def __init__(
        self, module: nn.Module, prunable: PrunableFilter | None, *, own_norms: bool, own_biases: bool
    ) -> None:
        self.module, self.prunable = module, prunable
        self._own_norms, self._own_biases = own_norms, own_biases
        self._hold: Hold | None = None
        self._fixed: dict[str, Place] = {}
        self._eval_layers: list[nn.Module] = []
        self._eval_handles: list[RemovableHandle] = []
        self._noticed: set[str] = set()

    @property
    def holding(self) -> bool:  # noqa: D102
        return self._hold is not None

    def inventory(self) -> Inventory:
        """Returns all tensors of the module, sorted, as they are now."""
        return take_inventory(self.module, self.prunable, own_norms=self._own_norms, own_biases=self._own_biases)

    def take(self, trainable: Mapping[str, Tensor], *, first: bool) -> None:
        """Takes the values that must stay, as they are now.

        Args:
            trainable: Name -> bool, the shape of the weight: the entries that may move.
            first: Whether no task is finished yet: then everything that is not divided among tasks may move as well.
        """
        inventory = self.inventory()
        self._hold = Hold(inventory.owned, trainable, {} if first else inventory.fixed)
        self._fixed = {} if first else inventory.fixed

    def mask_gradients_(self) -> None:
        """Zeroes the gradients of what is held."""
        assert self._hold is not None
        self._hold.mask_gradients_()

    def restore_(self, of: Iterable[Tensor] | None = None) -> None:
        """Restores what is held; ``of`` as in :meth:`Hold.restore_`."""
        assert self._hold is not None
        self._notice(self._hold.restore_(of))

    def restore_buffers_(self) -> None:
        """Restores the held buffers of layers that may have written to them in their last forward pass."""
        assert self._hold is not None
        quiet = {id(layer) for layer in self._eval_layers}
        names = [name for name, place in self._fixed.items() if not place.is_parameter and id(place.layer) not in quiet]
        self._notice(self._hold.restore_buffers_(names))

    def settle_(self) -> None:
        """Restores what is held in the layers that the module has now: some may have been replaced."""
        assert self._hold is not None
        inventory = self.inventory()
        self._hold.bind(inventory.held)
        self._notice(self._hold.changed_buffers())
        self._hold.restore_()

    def keep_statistics(self, keep: bool) -> None:
        """Begins or ends to keep the layers in eval mode that would update frozen statistics in each forward pass."""
        for handle in self._eval_handles:
            handle.remove()
        self._eval_layers = [
            layer
            for layer in (layers_with_statistics(self.module) if keep else [])
            if not (self._own_norms and is_norm(layer))
        ]
        self._eval_handles = keep_in_eval_mode(self._eval_layers)

    def drop(self) -> None:
        """Holds nothing any more."""
        self._hold, self._noticed = None, set()
        self.keep_statistics(False)

    def _notice(self, buffers: Iterable[str]) -> None:
        for name in buffers:
            if name not in self._noticed:
                self._noticed.add(name)
                warnings.warn(
                    f"{name} is a buffer that its layer changes while a later task is trained. Finished tasks use it, "
                    "so it is put back each time; if the layer changes it in training mode only, keep that layer in "
                    "eval mode after the first task, so that it computes with what will be kept",
                    stacklevel=4,
                )
