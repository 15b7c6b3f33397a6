"""The parts of ``benchmarks/networks.py``: which networks there are, what is done to each, the page of results."""

import importlib
from collections.abc import Callable
from functools import partial
from types import ModuleType

__all__ = ["LIBRARIES"]


def _library(name: str) -> ModuleType:
    return importlib.import_module(f"network_sweep.{name}_networks")


LIBRARIES: dict[str, Callable[[], ModuleType]] = {
    name: partial(_library, name) for name in ("torch", "timm", "torchvision", "transformers")
}
"""Library -> a function that returns the module with its ``names``, ``build`` and ``published``."""
