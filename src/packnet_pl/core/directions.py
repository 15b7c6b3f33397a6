"""Weight norm divides a weight by its length: where pruning leaves nothing of a row, the layer would compute 0 / 0."""

from collections.abc import Mapping

from torch import Tensor
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.weight_norm import WeightNorm

from packnet_pl.core.slots import Slot

__all__ = ["check_directions"]


def check_directions(slots: Mapping[str, Slot], released: Mapping[str, Tensor]) -> None:
    """Checks that every row of a weight under weight norm keeps an entry, so that it has a length to divide by.

    Args:
        slots: Name -> slot of each weight.
        released: Name -> which entries pruning makes zero (bool, the weight's shape).

    Raises:
        ValueError: Otherwise; it names the weight.
    """
    for name, slot in slots.items():
        dim = _kept_dimension(slot)
        if dim is None:
            continue
        left = (slot.now != 0) & ~released[name]
        rows = left.movedim(dim, 0).flatten(1).any(1) if 0 <= dim < left.dim() else left.any().reshape(1)
        if not bool(rows.all()):
            row = int((~rows).nonzero()[0])
            raise ValueError(
                f"pruning would leave nothing of row {row} of {name}, and its weight norm divides by the row's length: "
                "the layer would compute NaN; release less (a lower ratio, scope='layer'), or leave the weight out "
                "with PackNet(..., prunable=...)"
            )


def _kept_dimension(slot: Slot) -> int | None:
    """Returns along which dimension weight norm has a length for each index (-1: one for all); None without it."""
    if isinstance(slot.layer, ParametrizationList):
        norms = [part for part in slot.layer if isinstance(part, parametrizations._WeightNorm)]
        return norms[0].dim if norms and slot.key == "original1" else None
    for hook in slot.layer._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and slot.key == f"{hook.name}_v":
            return hook.dim
    return None
