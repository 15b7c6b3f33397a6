"""What a forward pass does with each parameter: multiplies activations with it, looks it up, adds it, scales by it."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from network_sweep.network import Network

__all__ = ["roles_of"]

# Part of an operator's name -> what it does with a parameter, the first that matches.
ROLES = (
    ("upsample", "resized"),
    ("transformer_encoder_layer", "multiplies"),
    ("native_multi_head", "multiplies"),
    ("embedding", "looked up"),
    ("norm", "normalises"),
    ("conv", "multiplies"),
    ("mm", "multiplies"),
    ("bmm", "multiplies"),
    ("mv", "multiplies"),
    ("linear", "multiplies"),
    ("rnn", "multiplies"),
    ("lstm", "multiplies"),
    ("gru", "multiplies"),
    ("trilinear", "multiplies"),
    ("attention", "attended to"),
    ("mul", "scales"),
    ("div", "scales"),
    ("addc", "scales"),
    ("lerp", "scales"),
    ("add", "added"),
    ("sub", "added"),
    ("cat", "joined"),
    ("index_put", "joined"),
    ("scatter", "joined"),
    ("where", "joined"),
    ("copy_", "joined"),
    ("dist", "compared"),
)


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows parameters through operators that see nothing else, and activations from the inputs on.

    A tensor is known by its memory: views of a parameter are that parameter.
    """

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.roles: dict[str, set[str]] = defaultdict(set)
        self.made_of: dict[int, frozenset[str]] = {}
        self.active: set[int] = set()
        self._kept: list[Tensor] = []  # so that no memory is given to another tensor
        for name, each in parameters.items():
            self.made_of[_memory(each)] = self.made_of.get(_memory(each), frozenset()) | {name}

    def activate(self, _module: nn.Module, args: Any, kwargs: Any) -> None:
        for each in tree_leaves((args, kwargs)):
            if isinstance(each, Tensor):
                self.active.add(_memory(each))
                self._kept.append(each)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        operator = func.__name__.partition(".")[0]
        given = [each for each in tree_leaves((args, kwargs or {})) if isinstance(each, Tensor)]
        if operator in _PICKS:
            given = given[
                :1
            ]  # which entries are picked may depend on the inputs: they are the parameter's all the same
        active = any(_memory(each) in self.active for each in given)
        if not active and _role(operator) == "multiplies":
            self._multiply_parameters(operator, given, outputs)
            return outputs
        sources = frozenset(name for each in given for name in self.made_of.get(_memory(each), ()))
        self._record(operator, given, active, sources)
        for each in tree_leaves(outputs):
            if isinstance(each, Tensor):
                self._kept.append(each)
                if active:
                    self.active.add(_memory(each))
                    self.made_of.pop(_memory(each), None)
                elif sources:
                    self.made_of[_memory(each)] = sources
        return outputs

    def _record(self, operator: str, given: list[Tensor], active: bool, sources: frozenset[str]) -> None:
        role = _role(operator)
        if role and (active or role == "looked up"):
            for name in sources:
                self.roles[name].add(role)

    def _multiply_parameters(self, operator: str, given: list[Tensor], outputs: Any) -> None:
        """Takes the right one of two parameters for the weight, as in a linear layer of learned tokens."""
        floating = [each for each in given if each.is_floating_point()]
        right = frozenset[str]()
        for position, each in enumerate(floating):
            names = self.made_of.get(_memory(each), frozenset())
            is_right = position == len(floating) - 1 or ("conv" in operator and position > 0)
            right = names if is_right else right
            for name in names:
                self.roles[name].add("multiplies" if is_right else "multiplied by a parameter")
        for each in tree_leaves(outputs):
            if isinstance(each, Tensor):
                self._kept.append(each)
                self.made_of[_memory(each)] = right


def _role(operator: str) -> str | None:
    return next((role for part, role in ROLES if part in operator), None)


# Operators that pick entries of their first argument.
_PICKS = {"index", "index_select", "gather", "select", "slice", "take", "take_along_dim"}


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided and tensor.numel() else id(tensor)


def roles_of(network: Network) -> dict[str, set[str]]:
    """Calls a network in eval mode, and returns parameter name -> what was done with it.

    Returns:
        A set for each parameter, empty if the pass did not use it. Activations are what depends on the inputs; the
        roles "multiplies", "scales", "added" and so on mean by or to an activation, "looked up" by a number.
    """
    module = network.module.eval()
    parameters = dict(module.named_parameters(remove_duplicate=False))
    trace = _Trace({name: each.detach() for name, each in parameters.items()})
    handle = module.register_forward_pre_hook(trace.activate, with_kwargs=True)
    try:
        with torch.no_grad(), trace:
            network.call(module, 0)
    finally:
        handle.remove()
    return {name: trace.roles.get(name, set()) for name in parameters}
