"""Pack several tasks into one network by iterative pruning, with PyTorch Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packnet_pl.core import CapacityError, LearnedMask, PackNet, PruneRule
    from packnet_pl.packed import load_packed, save_packed
    from packnet_pl.training import PackNetCallback, PackNetMixin, TaskClassifier, fit_task

__all__ = [
    "CapacityError",
    "LearnedMask",
    "PackNet",
    "PackNetCallback",
    "PackNetMixin",
    "PruneRule",
    "TaskClassifier",
    "fit_task",
    "load_packed",
    "save_packed",
]

_HOMES = {
    "CapacityError": "packnet_pl.core",
    "LearnedMask": "packnet_pl.core",
    "PackNet": "packnet_pl.core",
    "PruneRule": "packnet_pl.core",
    "PackNetCallback": "packnet_pl.training",
    "PackNetMixin": "packnet_pl.training",
    "TaskClassifier": "packnet_pl.training",
    "fit_task": "packnet_pl.training",
    "load_packed": "packnet_pl.packed",
    "save_packed": "packnet_pl.packed",
}


# Names are imported when they are first asked for: `import packnet_pl.core` must not load Lightning.
def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("packnet-pl")
    if name not in _HOMES:
        raise AttributeError(f"module 'packnet_pl' has no attribute {name!r}; it has {__all__}")
    return getattr(import_module(_HOMES[name]), name)
