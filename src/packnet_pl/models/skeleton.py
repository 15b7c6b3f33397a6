"""Names, shapes and types of the tensors of a backbone, found without allocating its weights."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from packnet_pl.text import as_line

__all__ = ["Weightless", "backbone_skeleton"]

_MAKERS = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full}

MAX_SIDE = 8192
MAX_ARGUMENT = 1 << 20


def backbone_skeleton(build: Callable[[Mapping[str, Any]], Any], builder: Mapping[str, Any]) -> dict[str, Tensor]:
    """Returns the state dict of a backbone on the meta device: names, shapes and types.

    Args:
        build: As :func:`packnet_pl.models.build_backbone`.
        builder: What it takes, perhaps from a hostile file.

    Raises:
        ValueError: If the arguments are not allowed, or out of all proportion.
    """
    _check_arguments(builder.get("arguments"))
    try:
        with Weightless(), torch.random.fork_rng(devices=[]):
            net = build(builder)
        return {name: value.to("meta") for name, value in net.state_dict().items()}
    except (RuntimeError, TypeError, AttributeError, ArithmeticError, LookupError, AssertionError) as error:
        raise ValueError(f"backbone {builder.get('name')!r} cannot be built: {as_line(error, 200)}") from error


class Weightless(TorchFunctionMode):
    """Makes weights on the meta device, but not ranges and the like, from which some networks compute."""

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _MAKERS:
            kwargs = {**(kwargs or {}), "device": "meta"}
        return func(*args, **(kwargs or {}))


def _check_arguments(arguments: Any) -> None:
    if not isinstance(arguments, Mapping):
        raise ValueError("the arguments of the backbone are no mapping of names to values")
    for name, value in arguments.items():
        limit = MAX_SIDE if name == "image_size" else MAX_ARGUMENT
        # Of nested lists, such as the stages of a network, each number and each length counts.
        for number in _numbers(value):
            if not abs(number) <= limit:
                raise ValueError(f"argument {name} of the backbone is {number}; allowed in a file is up to {limit}")


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, (list, tuple)):
        yield 1024 * len(value)
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, (int, float)):
        yield value
