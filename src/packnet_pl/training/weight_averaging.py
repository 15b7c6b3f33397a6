"""Averaged weights: what may not move is not averaged either, and an average that never began is not used."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import StochasticWeightAveraging, WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from packnet_pl.core import PackNet
from packnet_pl.core.slots import plain_name
from packnet_pl.core.verification import private_tensors
from packnet_pl.training.families import of_both

__all__ = ["UnbegunAverages", "averaging_callbacks", "check_averages_begin", "keep_in_average"]


def averaging_callbacks(callbacks: Sequence[Any]) -> list[Any]:
    """Returns those of a Trainer's callbacks that average weights."""
    return [c for c in callbacks if isinstance(c, (*of_both(WeightAveraging), *of_both(StochasticWeightAveraging)))]


def check_averages_begin(trainer: pl.Trainer) -> None:
    """Does nothing if each StochasticWeightAveraging begins before the last epoch is over.

    Otherwise it would still estimate statistics anew in an epoch more, with an optimizer step in it.

    Raises:
        ValueError: If one begins later.
    """
    epochs = trainer.max_epochs
    for callback in averaging_callbacks(trainer.callbacks):  # type: ignore[attr-defined]
        start = getattr(callback, "_swa_epoch_start", None)
        if isinstance(start, int) and epochs is not None and -1 < epochs < start:
            raise ValueError(
                f"{type(callback).__name__} begins with epoch {start} (counted from 1; a share is counted once, in the "
                f"callback's first fit), and this fit has {epochs}: give a smaller swa_epoch_start, and each fit a "
                "callback of its own"
            )


class UnbegunAverages:
    """The averages of a fit that no weights have entered yet. They are made to follow the weights.

    Until its first update an average is what the network was when the fit began, and Lightning puts it in the place of
    the weights all the same: for validation, in checkpoints, and for good at the end. The first update overwrites it,
    so that what it holds before is free to choose.

    Args:
        callbacks: Of the Trainer, when a checkpoint has been loaded, if there is one.
    """

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self._counts = {callback: _count(callback) for callback in averaging_callbacks(callbacks)}

    def names(self) -> list[str]:
        """Returns the classes of the callbacks whose averages have not begun."""
        return [type(callback).__name__ for callback in self._unbegun()]

    def stale(self, steps: int) -> dict[str, int]:
        """Returns class -> step of those that took the weights in once, and not at the end: these are no average.

        Args:
            steps: How many steps the optimizers have made.
        """
        once = [c for c in self._counts if isinstance(c._average_model, AveragedModel) and _count(c) == 1]
        found = {type(callback).__name__: callback._latest_update_step for callback in once}
        return {name: step for name, step in found.items() if 0 < step < steps}

    @torch.no_grad()
    def follow_(self, pl_module: pl.LightningModule) -> None:
        """Gives the averages that have not begun what the module holds now."""
        for callback in self._unbegun():
            average = callback._average_model
            inner = average.module if isinstance(average, AveragedModel) else average
            for old, now in zip(_tensors(inner), _tensors(pl_module), strict=False):
                old.detach().copy_(now)

    def _unbegun(self) -> list[Any]:
        return [callback for callback, at_start in self._counts.items() if not _has_begun(callback, at_start)]


def _count(callback: Any) -> int:
    average = callback._average_model
    count = average.n_averaged if isinstance(average, AveragedModel) else getattr(callback, "n_averaged", None)
    return 0 if count is None else int(count)


def _has_begun(callback: Any, at_start: int) -> bool:
    if isinstance(callback._average_model, AveragedModel):
        return _count(callback) > 0
    if isinstance(callback, of_both(StochasticWeightAveraging)):
        # It counts on if it served an earlier fit; what a checkpoint brought of its average stands beside the count.
        return callback._init_n_averaged > 0 or _count(callback) != at_start
    return True


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())


def keep_in_average(
    packnet: PackNet, pl_module: pl.LightningModule, state_dict: dict[str, Any], others: Iterable[Tensor] = ()
) -> None:
    """Gives everything that the open task may not change its own bits in ``state_dict``: an average rounds.

    Args:
        packnet: With an open task.
        pl_module: Has the weights as they are.
        state_dict: Of ``pl_module``, with averaged weights; entries are replaced, not written to.
        others: Parameters and buffers outside the shared module that may not change either.
    """
    keys = {id(tensor): key for key, tensor in pl_module.state_dict(keep_vars=True).items()}
    shared = {plain_name(key): tensor for key, tensor in packnet.module.state_dict(keep_vars=True).items()}
    number = len(packnet.tasks) + 1
    for name, owner in packnet.owners.items():
        weight, key = shared[name].detach(), keys[id(shared[name])]
        state_dict[key] = torch.where(owner == number, state_dict[key].to(weight.device), weight)
    fixed = [shared[name] for name in packnet.summary().frozen] if packnet.tasks else []
    names = [name for task in packnet.tasks for name in packnet.private.get(task, [])]
    for tensor in [*fixed, *private_tensors(pl_module, names).values(), *others]:
        if id(tensor) in keys:  # no state dict has a buffer that is not persistent
            state_dict[keys[id(tensor)]] = tensor.detach().clone()
