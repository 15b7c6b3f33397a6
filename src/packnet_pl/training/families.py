"""Serves ``pytorch_lightning`` and ``lightning.pytorch``: one library, whose two names have unrelated classes.

This package is written with the first. What a user's Trainer, module or callback is may come from either.
"""

import sys
import warnings
from typing import Any

__all__ = ["base_of_both", "is_of_lightning", "library_of", "of_both", "overrides", "warn_if_both"]

_NAMES = {"pytorch_lightning": "lightning.pytorch", "lightning_fabric": "lightning.fabric"}


def of_both(cls: type[Any]) -> tuple[type[Any], ...]:
    """Returns ``cls``, and the class of that name in the other library if that has been imported.

    Args:
        cls: A class of ``pytorch_lightning`` or ``lightning_fabric``.
    """
    first, _, rest = cls.__module__.partition(".")
    # Looked up, not imported: whoever has an object of the other library has imported it.
    other = getattr(sys.modules.get(f"{_NAMES[first]}.{rest}"), cls.__name__, None)
    return (cls,) if other is None else (cls, other)


def base_of_both(cls: type[Any]) -> type[Any]:
    """Returns a class to derive from that is ``cls`` for both libraries, if the other one has been imported by now.

    A Trainer takes any callback that has the hooks, but its plugins, and what LightningCLI makes from a configuration,
    must be of its own classes.
    """
    both = of_both(cls)
    return cls if len(both) == 1 else type(cls.__name__, both, {})


def overrides(instance: object, hook: str) -> bool:
    """Returns whether the class of a LightningModule or datamodule has a method of its own for ``hook``."""
    return not is_of_lightning(getattr(type(instance), hook, None))


def is_of_lightning(thing: object) -> bool:
    """Returns whether a class or function is one of the two libraries' own."""
    home: str = getattr(thing, "__module__", "")
    return home.startswith(("pytorch_lightning.", "lightning.pytorch."))


def library_of(instance: object, cls: type[Any]) -> str:
    """Returns the name of the library of which ``instance`` is a ``cls``.

    Args:
        instance: Of one of the classes of :func:`of_both`.
        cls: A class of ``pytorch_lightning``.
    """
    return "pytorch_lightning" if isinstance(instance, cls) else "lightning.pytorch"


def warn_if_both(cls: type[Any]) -> None:
    """Warns, if ``lightning.pytorch`` has been imported, that a module of this package is not for its Trainer."""
    if "lightning.pytorch" in sys.modules:
        warnings.warn(
            f"{cls.__name__} is a LightningModule of pytorch_lightning, and lightning.pytorch is imported here, whose "
            "Trainer takes it for a stranger: import pytorch_lightning as pl, and give it pl.Trainer",
            stacklevel=3,
        )
