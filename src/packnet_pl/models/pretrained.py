"""Loads pretrained weights from a file into a backbone without its last layer, or says which tensors do not fit."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from packnet_pl.checkpoint_reading import read_checkpoint
from packnet_pl.files import readable

__all__ = ["cut_off_head", "load_weights", "read_weights", "without"]

_FILLED_IN = "num_batches_tracked"


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Returns the state dict in a file, on the CPU; no code in it is run.

    Args:
        path: Ends in ``.safetensors``, or in ``.pth`` or ``.pt`` for what ``torch.save(net.state_dict(), path)`` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has another ending, is damaged, or holds something else.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise ValueError(f"pretrained is {str(path)!r}; allowed are True, False or a .pth, .pt or .safetensors file")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} with pretrained weights; give another as pretrained=PATH")
    try:
        if path.suffix == ".safetensors":
            with readable(path) as name:
                return load_file(name)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged, or no safetensors file: {error}") from error
    state = read_checkpoint(path)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        inside = sorted(map(str, state))[:5] if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(f"{path} is no state dict, it holds {inside}; save the network's state_dict() alone")
    return dict(state)


def without(state: Mapping[str, Tensor], layers: Iterable[str]) -> dict[str, Tensor]:
    """Returns ``state`` without the tensors of the named layers."""
    prefixes = tuple(f"{layer}." for layer in layers)
    return {name: value for name, value in state.items() if not name.startswith(prefixes)}


def cut_off_head(state: Mapping[str, Tensor], last: str, num_features: int) -> dict[str, Tensor] | None:
    """Returns weight (classes x features) and bias (0 if it has none) of the output layer; None if it is not there.

    Args:
        state: The state dict of the whole network.
        last: Name of its output layer, a linear one or, what is the same behind pooling, a 1 x 1 convolution.
        num_features: Length of the feature vectors that it takes.
    """
    weight, bias = state.get(f"{last}.weight"), state.get(f"{last}.bias")
    if weight is None or weight.ndim < 2 or weight.numel() != len(weight) * num_features:
        return None
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    return {"weight": weight.detach().flatten(1).clone(), "bias": bias.detach().clone()}


def load_weights(net: nn.Module, state: Mapping[str, Tensor], *, source: str, random: Iterable[str] = ()) -> None:
    """Loads ``state`` into ``net``; nothing is loaded if it does not fit.

    Args:
        net: Takes the weights.
        state: Parameter or buffer name -> values.
        source: Where they come from, for the message.
        random: Names of layers that keep the weights they have; ``state`` may hold others under these names.

    Raises:
        ValueError: If tensors are missing, too many, or of another shape.
    """
    random = list(random)
    state, wanted = without(state, random), without(net.state_dict(), random)
    # Files from before torch 0.4.1 lack these counters, torchvision's DenseNets among them.
    state |= {name: value for name, value in wanted.items() if name.endswith(_FILLED_IN) and name not in state}
    shapes = [
        f"{name} is {list(state[name].shape)} instead of {list(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    findings = [
        *([f"missing are {_first(missing)}"] if missing else []),
        *([f"unexpected are {_first(unexpected)}"] if unexpected else []),
        *([f"of another shape: {_first(shapes)}"] if shapes else []),
    ]
    if findings:
        raise ValueError(f"the weights in {source} are not this network's: {'; '.join(findings)}")
    net.load_state_dict(state, strict=not random)


def _first(found: list[str]) -> str:
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
