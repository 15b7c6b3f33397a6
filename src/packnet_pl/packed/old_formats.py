"""Packed files of earlier formats, as files of the present one."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from packnet_pl.core.digest import fingerprint
from packnet_pl.core.ownership import count_owners
from packnet_pl.packed.weights import pack_weights

__all__ = ["upgrade"]


def upgrade(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns header and tensors of format 1 for those of format 0.

    Format 0 had all weights as ``shared/<name>``, one byte per weight as ``owners/<name>``, and no checksums: those of
    the state of PackNet are left to tell whether it is whole.

    Args:
        header: Parsed, not checked.
        tensors: As stored.

    Raises:
        ValueError: If they contradict each other; other errors where the header is not what it should be.
    """
    known = {"resize": None, "ratio": None, "accuracy": None}
    new: dict[str, Any] = {
        **{key: header[key] for key in ("backbone", "packnet", "history")},
        "format": 1,
        "tasks": [{**task, **known} for task in header["tasks"]],
        "weights": {},
        "aliases": {},
    }
    packed = {name: tensor for name, tensor in tensors.items() if not name.startswith("owners/")}
    for key, owner in tensors.items():
        name = key.removeprefix("owners/")
        if name == key:
            continue
        weight = packed.pop(f"shared/{name}", None)
        if weight is None or weight.shape != owner.shape:
            raise ValueError(f"the owners of {name} do not fit its weights")
        counts = count_owners(owner, len(header["tasks"]))
        new["weights"][name] = {
            "shape": list(weight.shape),
            "dtype": str(weight.dtype).removeprefix("torch."),
            "counts": counts,
        }
        packed[f"values/{name}"], packed[f"owners/{name}"] = pack_weights(weight, owner, counts)
    new["checksums"] = {name: fingerprint(tensor) for name, tensor in packed.items()}
    return new, packed
