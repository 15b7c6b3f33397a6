"""Which parameters are divided among tasks: the rules "weights", "paper" and "all", or a function of the user's."""

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import is_parametrized

from packnet_pl.choices import PRUNABLES, Prunable
from packnet_pl.core.module_modes import is_torch_norm

__all__ = [
    "PAPER_LAYERS",
    "PRUNABLE_TYPES",
    "RULES",
    "PrunableRule",
    "Role",
    "check_prunable",
    "is_matrix",
    "is_weight",
    "named_in",
    "own_name",
    "role_of",
    "rule_named",
]

PrunableRule = Callable[[str, nn.Module, Tensor], bool]
"""Whether a parameter is divided among tasks, from its name, the module that has it, and itself."""

PAPER_LAYERS: Final = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
"""Layers whose ``weight`` is divided among tasks in the paper: convolutions and fully connected layers."""

PRUNABLE_TYPES: Final = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""Types of numbers that are ranked by magnitude, and frozen entry by entry."""

_BIAS = re.compile(r"(^|_)(bias|biases)(_|\d|$)")
_WEIGHT = re.compile(r"(^|_)weight(?!\w*_g$)(_|\d|$)")
_TABLE = re.compile(r"(^|_)(pos|positions?|positional)(_|\d|$)|(^|_)(tokens?|embeds?|embeddings?|emb)_?\d*$")
_PERHAPS_TABLE = re.compile(
    r"(^|_)(tokens?|embeds?|embeddings?|emb|table|latents?|prompts?|probe|queries|rel|ape|freqs)(_|\d|$)"
)
_MATRIX = re.compile(r"(^|_)(weights?|proj|projection|kernel|matrix)(_|\d|$)")
"""Names that say more than those of tables: ``embed_proj_weight`` is no table."""
_PERHAPS_MATRIX = re.compile(r"(^|_)[wW](_|$)|^to_")
_SCALE = re.compile(r"(scale|gamma|gain|temperature|_g$)")
_SCALED = (nn.PReLU,)
_PARAMETRIZED = re.compile(r"(?:^|\.)parametrizations\.([^.]+)\.original(\d*)$")


class Role(Enum):
    """What a parameter does to activations: see :func:`role_of`."""

    WEIGHT = "multiplies them"
    TABLE = "is looked up, or added as a position or token"
    NORM = "belongs to a norm"
    BIAS = "is added"
    SCALE = "scales each channel"
    UNKNOWN = "is none of these"


def role_of(name: str, module: nn.Module, parameter: Tensor) -> Role:  # noqa: PLR0911 - one for each line below
    """Returns what a parameter does to activations, from its shape, its own name and the kind of its module.

    The rule: a floating-point parameter with two or more dimensions multiplies activations, unless it belongs to a
    norm, is called a bias, or is a table that is looked up or added. The rest says how each of these is told.

    A tensor that a parametrization computes another from is judged as that one; one in a list of parameters goes by the
    list's name too. The first that applies:

    1. WEIGHT: the ``weight`` of a convolution or linear layer, whatever its shape (SCALE: its length in weight norm).
    2. UNKNOWN: of another type than float16, bfloat16, float32 and float64.
    3. NORM: in one of torch's norms, or a vector in a class with "norm" in its name.
    4. BIAS: called so; but a matrix that is called the weight, projection or kernel of a bias.
    5. TABLE: in an embedding layer, or called a token, an embedding or a position. UNKNOWN instead if it may be what
       multiplies one (``W_pos``, ``to_tokens``).
    6. WEIGHT: at least two of its dimensions are longer than 1; or it has two, and is called a weight. UNKNOWN instead
       if its name may be that of a table (latents, prompts, queries ...), or it is the weight of a class that is called
       an embedding and is none of torch's.
    7. SCALE: a vector that is called one.
    8. UNKNOWN: all else.

    Args:
        name: Of the parameter; what stands after the last dot is its own.
        module: The module that has it, or whose tensor is computed from it.
        parameter: Of any shape.
    """
    key = own_name(name, module)
    if _is_length(name, module):
        return Role.SCALE
    if isinstance(module, PAPER_LAYERS) and key == "weight":
        return Role.WEIGHT
    if parameter.dtype not in PRUNABLE_TYPES:
        return Role.UNKNOWN
    matrix = is_matrix(parameter)
    kind = _class_name(module)
    if is_torch_norm(module) or ("norm" in kind and not matrix):
        return Role.NORM
    says_matrix = _MATRIX.search(key) is not None
    if _BIAS.search(key) and not (matrix and _MATRIX.search(key.rpartition("bias")[2])):
        return Role.BIAS
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return Role.TABLE
    if _TABLE.search(key) and not says_matrix:
        return Role.UNKNOWN if matrix and _PERHAPS_MATRIX.search(key) else Role.TABLE
    if matrix or (parameter.dim() >= 2 and _WEIGHT.search(key)):
        perhaps_table = ("embedding" in kind and key == "weight") or (_PERHAPS_TABLE.search(key) and not says_matrix)
        return Role.UNKNOWN if perhaps_table else Role.WEIGHT
    return Role.SCALE if _SCALE.search(key) or isinstance(module, _SCALED) else Role.UNKNOWN


def is_weight(name: str, module: nn.Module, parameter: Tensor) -> bool:
    """Returns whether a parameter multiplies activations, as :func:`role_of` says: the rule "weights".

    Args:
        name: Of the parameter, such as "encoder.0.in_proj_weight".
        module: The module that has it, or whose tensor is computed from it.
        parameter: Of any shape.
    """
    return role_of(name, module, parameter) is Role.WEIGHT


def is_paper_weight(name: str, module: nn.Module, parameter: Tensor) -> bool:
    """Returns whether a parameter is the ``weight`` of a convolution or linear layer: the rule "paper"."""
    return isinstance(module, PAPER_LAYERS) and name.rpartition(".")[2] == "weight"


def is_weight_or_table(name: str, module: nn.Module, parameter: Tensor) -> bool:
    """Returns whether a parameter is a weight, or a table with rows for words or positions: the rule "all"."""
    role = role_of(name, module, parameter)
    return role is Role.WEIGHT or (
        role in (Role.TABLE, Role.UNKNOWN) and parameter.dtype in PRUNABLE_TYPES and is_matrix(parameter)
    )


# States name their rule: whoever changes what one of these chooses gives states a new format, and keeps the old choice.
RULES: Final[Mapping[str, PrunableRule]] = {
    "weights": is_weight,
    "paper": is_paper_weight,
    "all": is_weight_or_table,
}
"""The rules that have a name."""


def own_name(name: str, module: nn.Module) -> str:
    """Returns what a parameter is called in its module: as the tensor computed from it, or with its list's name.

    Args:
        name: Of the parameter: "0.bias", "0.parametrizations.bias.original", "biases.3".
        module: As for :func:`role_of`.

    Returns:
        Such as "bias", "bias", "biases_3".
    """
    parametrized = _PARAMETRIZED.search(name)
    if parametrized:
        return parametrized[1]
    parts = name.rsplit(".", 2)
    return "_".join(parts[-2:]) if isinstance(module, (nn.ParameterList, nn.ParameterDict)) else parts[-1]


def is_matrix(parameter: Tensor) -> bool:
    """Returns whether at least two dimensions are longer than 1; a vector may have others of length 1."""
    return sum(length > 1 for length in parameter.shape) >= 2


def named_in(names: Collection[str]) -> PrunableRule:
    """Returns the rule by which exactly the parameters of these names are divided among tasks."""
    return lambda name, *_: name in names


def rule_named(name: str, function: PrunableRule | None, owned: Collection[str]) -> PrunableRule:
    """Returns a rule by the name that states have for it.

    Args:
        name: Of a rule, or "function".
        function: The user's, if there is one.
        owned: What a function chose that only another process has.
    """
    return RULES[name] if name in RULES else function or named_in(owned)


def check_prunable(given: object) -> Prunable | PrunableRule:
    """Returns the rule as it was given.

    Raises:
        ValueError: If it is neither the name of a rule nor a function of name, module and parameter.
    """
    form = "prunable=lambda name, module, parameter: ... (the name is the parameter's, such as 'conv1.weight')"
    if isinstance(given, str) and given in RULES:
        return given  # type: ignore[return-value]
    if not callable(given):
        raise ValueError(f"prunable is {given!r}; allowed are {list(PRUNABLES)}, or a function: {form}")
    try:
        inspect.signature(given).bind("name", nn.Module(), torch.empty(0))
    except TypeError as error:
        raise ValueError(
            f"prunable is {getattr(given, '__name__', given)!r}, which does not take a name, a module and a parameter "
            f"({error}); write {form}; packnet_pl.core.is_weight is the default rule, to narrow or widen it"
        ) from error
    except ValueError:  # some functions written in C do not say what they take
        pass
    return given


def _is_length(name: str, module: nn.Module) -> bool:
    """Returns whether a parameter holds the lengths that weight norm scales the rows of another to."""
    parametrized = _PARAMETRIZED.search(name)
    if parametrized is None or parametrized[2] != "0":
        return False
    lists = module.parametrizations if is_parametrized(module) else {parametrized[1]: module}
    return any(isinstance(part, _WeightNorm) for part in lists[parametrized[1]].children())  # type: ignore[index,union-attr]


def _class_name(module: nn.Module) -> str:
    """Returns the name of the module's class, in lower case; a scripted module knows what it was."""
    return str(getattr(module, "original_name", type(module).__name__)).lower()
