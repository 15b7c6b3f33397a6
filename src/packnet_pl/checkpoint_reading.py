"""Reads what ``torch.save`` wrote without running code of the file; names the types that prevent it."""

import pickle
from os import PathLike
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint

from packnet_pl.counting import counted
from packnet_pl.text import as_line

__all__ = ["check_plain", "read_checkpoint", "unreadable"]

_NUMPY = "*{type(numpy.dtype(code)) for code in numpy.typecodes['All']}"
"""numpy's classes of types: torch asks for them too, and does not name them beforehand."""


def read_checkpoint(path: str | PathLike[str]) -> Any:
    """Returns the content of a file, on the CPU, without running any of its code.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, something else, or holds objects of types that are not plain data.
    """  # noqa: DOC501
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise unreadable(path, error) from error


def check_plain(path: str | PathLike[str]) -> None:
    """Refuses a file that holds objects of types that are not plain data; its tensors are not read.

    Raises:
        ValueError: If it does; the message names them, and how to allow them.
    """
    if types := _foreign_types(path):
        raise ValueError(_named(path, types))


def unreadable(path: str | PathLike[str], error: Exception) -> ValueError:
    """Returns a one-line error for ``error``, which reading ``path`` as plain data has raised."""
    if types := _foreign_types(path):
        return ValueError(_named(path, types))
    reason = as_line(error, 200) or type(error).__name__
    return ValueError(f"{path} is damaged, or holds more than tensors and plain values: {reason}")


def _named(path: str | PathLike[str], types: list[str]) -> str:
    allowed = [name.removeprefix("builtins.") for name in types]
    if "numpy.dtype" in types:
        allowed.append(_NUMPY)
    more = f" and {counted(len(types) - 1, 'type')} more" if len(types) > 1 else ""
    listed = ", ".join(allowed)
    return (
        f"{path} holds {types[0]:.100}{more}, and is read as plain data, so that it runs no code; most often it is in "
        "save_hyperparameters(): give that dicts, lists, numbers and text. If you trust the file, allow what it holds "
        f"before it is read: torch.serialization.add_safe_globals([{listed:.1000}])"
    )


def _foreign_types(path: str | PathLike[str]) -> list[str]:
    """Returns types and functions that the file names and torch refuses to load, those of Python last."""
    try:
        names = get_unsafe_globals_in_checkpoint(path)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError):
        return []
    return sorted(names, key=lambda name: (name.startswith(("builtins.", "typing.", "collections.")), name))
