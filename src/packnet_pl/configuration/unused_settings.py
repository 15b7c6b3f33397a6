"""Refuses settings that came after the paper where the method has no use for them, instead of passing over them."""

from collections.abc import Iterator, Mapping
from typing import Any

from packnet_pl.errors import UsageError
from packnet_pl.old_settings import PRUNING, RETRAINING

__all__ = ["check_used"]


def check_used(config: Any) -> None:
    """Refuses what is set for pruning, or for phase "retrain", with a method that has none.

    What there was before has no such check, so that runs of earlier versions resume: ratio, scope and granularity.

    Args:
        config: Of the form of the schema, each value checked by itself.

    Raises:
        UsageError: If something is.
    """
    method = f"method={config.method.name}"
    if config.method.pack:
        return
    for name in ("score", "schedule"):
        if config.prune[name] != PRUNING[name]:
            raise UsageError(f"prune.{name}={config.prune[name]} was given, but {method} packs nothing; leave it out")
    choice = config.method.classifier.get("retrain")
    if choice:
        return
    instead = "leave it out" if choice is None else "leave it out, or give method.classifier.retrain=true"
    for given in _of_retraining(config):
        raise UsageError(f"{given}, but {method} has no phase retrain; {instead}")


def _of_retraining(config: Any) -> Iterator[str]:
    """Yields what is set for phase "retrain" alone."""
    for section in ("epochs", "lr"):
        factor = config.optim[section].retrain
        if factor != RETRAINING[section]["retrain"]:
            yield f"optim.{section}.retrain is {factor:g}"
    for name, callback in (config.callbacks or {}).items():
        if isinstance(callback, Mapping) and callback.get("phase") == "retrain":
            yield f"callbacks.{name}.phase is retrain"
