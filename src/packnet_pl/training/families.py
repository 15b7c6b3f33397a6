"""``pytorch_lightning`` and ``lightning.pytorch``: one library under two names, of strangers.

This package is written with the first. What a user's Trainer, module or callback is may come from either.
"""

import sys
from typing import Any

__all__ = ["is_of_lightning", "library_of", "of_both", "overrides"]

_NAMES = {"pytorch_lightning": "lightning.pytorch", "lightning_fabric": "lightning.fabric"}


def of_both(cls: type[Any]) -> tuple[type[Any], ...]:
    """Returns ``cls``, and the class of that name in the other library if somebody has imported it.

    Args:
        cls: A class of ``pytorch_lightning`` or ``lightning_fabric``.
    """
    first, _, rest = cls.__module__.partition(".")
    # Looked up, not imported: whoever has an object of the other library has imported it.
    other = getattr(sys.modules.get(f"{_NAMES[first]}.{rest}"), cls.__name__, None)
    return (cls,) if other is None else (cls, other)


def overrides(instance: object, hook: str) -> bool:
    """Returns whether the class of a LightningModule or datamodule has a method of its own for ``hook``."""
    return not is_of_lightning(getattr(type(instance), hook, None))


def is_of_lightning(thing: object) -> bool:
    """Returns whether a class or function is one of the two libraries' own."""
    home: str = getattr(thing, "__module__", "")
    return home.startswith(("pytorch_lightning.", "lightning.pytorch."))


def library_of(instance: object, cls: type[Any]) -> str:
    """Returns the name of the library in whose sense ``instance`` is a ``cls``.

    Args:
        instance: Of one of the classes of :func:`of_both`.
        cls: A class of ``pytorch_lightning``.
    """
    return "pytorch_lightning" if isinstance(instance, cls) else "lightning.pytorch"
