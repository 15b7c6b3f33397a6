"""Checks and instantiates objects that a configuration names by ``_target_``."""

import inspect
import re
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra._internal.utils import _locate
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from packnet_pl.choices import nearest
from packnet_pl.errors import UsageError

__all__ = ["bind_targets", "build_target"]


def bind_targets(node: Any, key: str = "") -> None:
    """Checks, without building anything, that each ``_target_`` exists and takes the arguments beside it.

    Args:
        node: A resolved configuration, as dicts and lists.
        key: Where it stands, for the message.

    Raises:
        UsageError: If a target does not exist, or an argument is unknown or missing.
    """
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else []
    for name, child in children:
        bind_targets(child, f"{key}.{name}" if key else str(name))
    if not isinstance(node, dict) or "_target_" not in node:
        return
    try:
        target = _locate(node["_target_"])
    except Exception as error:
        raise UsageError(f"{key}._target_ is {node['_target_']!r}, which cannot be imported: {error}") from error
    if not callable(target):
        raise UsageError(f"{key}._target_ is {node['_target_']!r}, which is neither a class nor a function")
    try:
        signature = inspect.signature(target)
    except ValueError:
        return  # of a builtin, which does not list its arguments
    # Which phase a callback is for is no argument of it.
    beside = {"phase"} if key.rpartition(".")[0] == "callbacks" else set()
    arguments = [name for name in node if not name.startswith("_") and name not in beside]
    known = [name for name, parameter in signature.parameters.items() if parameter.kind != parameter.VAR_KEYWORD]
    kinds = _kinds(target)
    open_ended = len(known) < len(signature.parameters)
    for name in arguments:
        if name not in known and not open_ended:
            raise UsageError(f"{key}.{name}: {node['_target_']} has no such argument; {nearest(name, known)}")
        _check_type(f"{key}.{name}", node[name], kinds.get(name))
    if not node.get("_partial_"):
        try:
            signature.bind(**{name: node[name] for name in arguments})
        except TypeError as error:
            raise UsageError(f"{key}: {node['_target_']}: {error}") from error


def _kinds(target: Any) -> dict[str, set[type]]:
    """Returns, per argument of ``target`` that is a number, bool or text and nothing else, which of them it may be."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        hints = get_type_hints(function)
    except Exception:  # names that are known to type checkers only
        return {}
    found = {}
    for name, hint in hints.items():
        kinds = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
        if kinds <= {int, float, bool, str, type(None)}:
            found[name] = kinds
    return found


def _check_type(key: str, value: Any, kinds: set[type] | None) -> None:
    if kinds is None or str in kinds or type(value) in kinds or (type(value) is int and float in kinds):
        return
    names = {int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
    allowed = " or ".join(text for kind, text in names.items() if kind in kinds)
    sides = re.fullmatch(r"(\d+) *[x*] *\1", value, re.IGNORECASE) if isinstance(value, str) else None
    hint = f"; for squares of that size give {key}={sides.group(1)}" if sides else ""
    raise UsageError(f"{key} is {'null' if value is None else repr(value)}; allowed is {allowed}{hint}")


def _under(key: str, message: str) -> str:
    """Returns ``message`` with ``key`` before it, unless it begins with a part of that."""
    return message if message.partition(" ")[0] in key.split(".") else f"{key}: {message}"


def build_target(node: DictConfig, key: str) -> Any:
    """Instantiates ``node``.

    Args:
        node: With a ``_target_``.
        key: Where it stands, for the message.

    Raises:
        InstantiationException: If the target fails otherwise: a bug.
        UsageError: If the target takes its arguments not so, or Hydra lets no configuration name it (as ``os.system``).
    """
    plain = OmegaConf.to_container(node, resolve=True)
    try:
        return instantiate(plain, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, (ValueError, TypeError, OSError)):
            raise UsageError(_under(key, str(error.__cause__))) from error.__cause__
        if error.__cause__ is None:  # Hydra itself refuses the target
            raise UsageError(f"{key}: {error}") from error
        raise
