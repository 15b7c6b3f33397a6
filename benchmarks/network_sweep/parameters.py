"""How the parameters of a network are divided: which the tasks own, and which of the others multiply activations."""

import re
from dataclasses import dataclass

from torch import Tensor, nn

from network_sweep.network import Network
from network_sweep.roles import roles_of
from packnet_pl import PackNet
from packnet_pl.core import Role, role_of
from packnet_pl.core.module_modes import is_bias, is_norm

__all__ = ["Shares", "is_magnitude", "shares_of"]


@dataclass(frozen=True)
class Shares:
    """Numbers of parameters, each counted once however many modules share it.

    Attributes:
        total: All.
        owned: Those that are divided among tasks.
        weights: Owned ones, and all others but embeddings and tables, norms, biases and magnitude vectors.
        left: Name -> (number, what the forward pass does with it) of what is in ``weights`` and not owned.
        not_multiplying: The same of what is owned, and multiplies no activation in the forward pass that was traced.
    """

    total: int
    owned: int
    weights: int
    left: dict[str, tuple[int, str]]
    not_multiplying: dict[str, tuple[int, str]]


def shares_of(network: Network, packnet: PackNet) -> Shares:
    """Counts the parameters, by what a traced forward pass does with each.

    What is an embedding or a table is decided by the trace (it is looked up, added, joined or compared, and multiplies
    nothing), not by the rule that PackNet has; by its name only where the pass did not come by.
    """
    owned = set(packnet.summary().owned)
    roles = roles_of(network)
    total = mine = weights = 0
    left: dict[str, tuple[int, str]] = {}
    unused: dict[str, tuple[int, str]] = {}
    for name, parameter in network.module.named_parameters():
        layer_name, _, key = name.rpartition(".")
        layer = network.module.get_submodule(layer_name)
        role = ", ".join(sorted(roles[name])) or "not in the forward pass"
        total += parameter.numel()
        if name in owned:
            mine += parameter.numel()
            weights += parameter.numel()
            if roles[name] and "multiplies" not in roles[name]:
                unused[name] = (parameter.numel(), role)
        elif not _is_exempt(layer, key, name, parameter, roles[name]):
            weights += parameter.numel()
            left[name] = (parameter.numel(), role)
    return Shares(total, mine, weights, left, unused)


def is_magnitude(name: str) -> bool:
    """Returns whether ``name`` is the magnitude of a weight norm: one number for each output channel."""
    return re.search(r"(parametrizations\.\w+\.original0|weight_g)$", name) is not None


def _is_exempt(layer: nn.Module, key: str, name: str, parameter: Tensor, roles: set[str]) -> bool:
    if is_norm(layer) or is_bias(key) or is_magnitude(name) or isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
        return True
    if not roles:
        return parameter.dim() < 2 or role_of(name, layer, parameter) is Role.TABLE
    return "multiplies" not in roles
