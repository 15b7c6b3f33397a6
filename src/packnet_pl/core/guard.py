"""What keeps the shared module still while a task is open, and its buffers between two tasks."""

import warnings
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from packnet_pl.core.bits import same_bits
from packnet_pl.core.freezing import Hold, put_back_
from packnet_pl.core.inventory import Inventory, Place, PrunableFilter, find_module, take_inventory
from packnet_pl.core.module_modes import is_norm, is_observer, keep_in_eval_mode, layers_with_statistics

__all__ = ["Guard"]

_ADVICE = (
    "if the layer changes it in training mode only, keep that layer in eval mode after the first task, so that it "
    "computes with what will be kept"
)


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
        self._noticed: set[type[nn.Module]] = set()
        self._resting: dict[str, Tensor] = {}

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
        inventory, self._resting = self.inventory(), {}
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
        self._hold, self._noticed, self._resting = None, set(), {}
        self.keep_statistics(False)

    @torch.inference_mode(False)
    def rest(self) -> None:
        """Takes, for the time between tasks, the buffers that forward passes of observers move, and unsaved ones.

        No fingerprint knows the latter, so that nobody would notice.
        """
        self._resting = {
            name: place.now.detach().clone()
            for name, place in self.inventory().fixed.items()
            if not place.is_parameter and (is_observer(place.layer) or not place.is_saved)
        }

    @torch.inference_mode(False)
    @torch.no_grad()
    def put_back_buffers_(self) -> None:
        """Puts back the buffers that :meth:`rest` took; what was converted or replaced since is left as it is."""
        places = self.inventory().fixed if self._resting else {}
        changed = []
        for name, value in self._resting.items():
            tensor = places[name].found if name in places else None
            if tensor is None or (tensor.dtype, tensor.shape) != (value.dtype, value.shape) or same_bits(tensor, value):
                continue
            changed.append(name)
            put_back_(name, places[name], value.to(tensor.device))
        self._notice(changed, "in a forward pass outside a fit", "ask finished tasks inside subnetwork()")

    def _notice(
        self,
        buffers: Iterable[str],
        when: str = "while a later task is trained",
        advice: str = _ADVICE,
    ) -> None:
        """Warns once for each kind of layer, with the first name: one layer may have many buffers, and many twins."""
        groups: dict[type[nn.Module], list[str]] = {}
        names = list(buffers)
        paths = {name.rpartition(".")[0] for name in names} - {""}
        for name in names:
            path, parts = name.rpartition(".")[0], name.split(".")[:-1]
            prefixes = (".".join(parts[: depth + 1]) for depth in range(len(parts)))
            outer = next((prefix for prefix in prefixes if prefix in paths), path)
            groups.setdefault(type(find_module(self.module, outer) or self.module), []).append(name)
        for kind, found in groups.items():
            if kind in self._noticed:
                continue
            self._noticed.add(kind)
            more = f" (like {len(found) - 1} more of {kind.__name__})" if len(found) > 1 else ""
            warnings.warn(
                f"{found[0]}{more} is a buffer that its layer changes {when}. Finished tasks use it, so it is put back "
                f"each time; {advice}",
                stacklevel=4,
            )
