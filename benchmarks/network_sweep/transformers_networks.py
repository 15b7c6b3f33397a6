"""Every model type of transformers, from a small configuration with random weights."""

import copy
import importlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.models.auto.auto_mappings import CONFIG_MAPPING_NAMES
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from network_sweep.network import Network, NotTriedError, tensors_of
from network_sweep.tiny_configurations import LEVELS, shrunk
from network_sweep.transformers_inputs import candidates
from network_sweep.weightless import weightless

__all__ = ["build", "count", "names", "published"]

LARGEST = 40_000_000  # parameters of a network that is trained here


def names() -> list[str]:
    """Returns the model types that transformers knows."""
    return sorted(CONFIG_MAPPING_NAMES)


def count() -> int:
    """Returns the number of model types that there are."""
    return len(CONFIG_MAPPING_NAMES)


def build(name: str) -> Network:
    """Returns a small network of the model type ``name``.

    Raises:
        NotTriedError: If no way to shrink its configuration, or no set of inputs, makes one that runs.
    """
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    reasons = []
    config_class = CONFIG_MAPPING[name]
    for level in LEVELS:
        try:
            config = (
                config_class() if level == "none" else config_class.from_dict(shrunk(config_class().to_dict(), level))
            )
            network = _with_inputs(_made(name, config), config)
        except Exception as error:
            reasons.append(f"{level}: {type(error).__name__}: {' '.join(str(error).split())[:160]}")
            continue
        return network
    raise NotTriedError("; ".join(reasons))


def published(name: str) -> nn.Module:
    """Returns the network of the default configuration on the meta device."""
    config_class = CONFIG_MAPPING[name]
    return weightless(lambda: _class(name, config_class)(config_class()))


def _made(name: str, config: Any) -> nn.Module:
    kind = _class(name, type(config))
    size = sum(each.numel() for each in weightless(lambda: kind(config)).parameters())
    if size > LARGEST:
        raise NotTriedError(f"{size:,} parameters")
    torch.manual_seed(0)
    module: nn.Module = kind(config).float()
    return module


def _class(name: str, config_class: type) -> Any:
    """Returns the class of the model: the one that AutoModel takes, or the first that has this configuration."""
    known = MODEL_MAPPING_NAMES.get(name)
    if known:
        return getattr(transformers, known if isinstance(known, str) else known[0])
    module = importlib.import_module(config_class.__module__.replace("configuration_", "modeling_"))
    found = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, transformers.PreTrainedModel)
        and kind.config_class is config_class
        and "forward" in dir(kind)
        and not kind.__name__.endswith("PreTrainedModel")
    ]
    if not found:
        raise NotTriedError("no class has this configuration")
    return min(found, key=lambda kind: (not kind.__name__.endswith("Model"), len(kind.__name__)))


def _with_inputs(module: nn.Module, config: Any) -> Network:
    errors = []
    for make in candidates(module, config):
        try:
            with torch.no_grad():
                found = tensors_of(copy.deepcopy(module).eval()(**make(0)))  # Swin keeps what it learned of a size
            if not any(each.is_floating_point() and each.numel() for each in found):
                raise NotTriedError("no output with a gradient")
        except Exception as error:
            errors.append(f"{'+'.join(make(0))}: {type(error).__name__}: {' '.join(str(error).split())[:120]}")
            continue
        return Network(module, partial(_on_inputs, make=make), (", ".join(make(0)),))
    raise NotTriedError(
        " / ".join(errors) or f"no inputs known for {', '.join(inspect.signature(module.forward).parameters)}"
    )


def _on_inputs(module: nn.Module, seed: int, *, make: Callable[[int], dict[str, Tensor]]) -> Any:
    return module(**make(seed))
