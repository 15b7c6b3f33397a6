"""Corrects averaged weights: what is frozen is not averaged, and an average that never began is not used."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from packnet_pl.core import PackNet
from packnet_pl.core.verification import private_tensors
from packnet_pl.training.families import of_both
from packnet_pl.training.protocols import packnet_of

__all__ = [
    "Averages",
    "averaging_callbacks",
    "check_averages_begin",
    "freeze_in_average_",
    "move_behind_averages",
    "use_averages_of_skipped_training",
    "use_final_average",
    "use_schedule_free_averages",
]

_LARGE_SHARE = 0.1  # of an average, for weights that were there before anything was learned


def averaging_callbacks(callbacks: Sequence[Any]) -> list[Any]:
    """Returns the callbacks of a Trainer that average weights."""
    return [c for c in callbacks if isinstance(c, (*of_both(WeightAveraging), *of_both(StochasticWeightAveraging)))]


def check_averages_begin(trainer: pl.Trainer) -> None:
    """Checks that each StochasticWeightAveraging begins before the last epoch is over.

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


def move_behind_averages(trainer: pl.Trainer, callback: pl.Callback) -> None:
    """Moves a callback behind averaging ones, whose averages it corrects in checkpoints."""
    callbacks = [c for c in trainer.callbacks if c is not callback]  # type: ignore[attr-defined]
    behind = max((i + 1 for i, c in enumerate(callbacks) if isinstance(c, of_both(WeightAveraging))), default=0)
    if behind > trainer.callbacks.index(callback):  # type: ignore[attr-defined]
        trainer.callbacks = [*callbacks[:behind], callback, *callbacks[behind:]]  # type: ignore[attr-defined]


class Averages:
    """The averages of one fit, which replace the weights for validation and at the end.

    Until its first update an average is what the network was when the fit began. That update overwrites it, so before
    it an average is made to follow the weights.

    Args:
        callbacks: Of the Trainer, when a checkpoint has been loaded, if there is one.
    """

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self._counts = {callback: _count(callback) for callback in averaging_callbacks(callbacks)}

    def __bool__(self) -> bool:
        return bool(self._counts)

    @torch.no_grad()
    def follow_(self, module: pl.LightningModule) -> None:
        """Sets the averages that have not begun to the module's present values."""
        for callback in self._unbegun():
            average = callback._average_model
            inner = average.module if isinstance(average, AveragedModel) else average
            for old, now in zip(_tensors(inner), _tensors(module), strict=False):
                old.detach().copy_(now)

    def freeze_in_(self, state_dict: dict[str, Any], module: pl.LightningModule, outside: Iterable[Tensor]) -> None:
        """Restores, in a checkpoint with averaged weights, what is frozen in the module: an average rounds.

        Args:
            state_dict: Of the module; entries are replaced, not written to.
            module: Has the weights as they are, and a PackNet with an open task.
            outside: Parameters and buffers outside the shared module that are frozen too.
        """
        if any(isinstance(callback, of_both(WeightAveraging)) for callback in self._counts):
            freeze_in_average_(packnet_of(module), module, state_dict, outside)

    def warn(self, steps: int) -> None:
        """Warns of averages that never began, or are no average.

        Args:
            steps: How many steps the optimizers have made.
        """
        for callback in self._unbegun():
            rank_zero_warn(
                f"{type(callback).__name__} never updated its average in this fit, so the trained weights are used as "
                "they are: its start lies behind the end of the fit, or the callback has served a fit before (make a "
                "new one for each)"
            )
        for callback in self._counts:
            step = callback._latest_update_step if isinstance(callback._average_model, AveragedModel) else 0
            if _count(callback) == 1 and 0 < step < steps:
                rank_zero_warn(
                    f"{type(callback).__name__} updated its average in step {step} of {steps} alone, so the weights of "
                    "that step are kept, as it asks: what was learned later is lost; let it update more often"
                )
            elif (share := _share_of_first(callback)) > _LARGE_SHARE:
                rank_zero_warn(
                    f"{type(callback).__name__} has averaged {_count(callback)} times, and the weights of the first "
                    f"time still make up {share:.0%} of what is kept: its decay is the same from the first step on; "
                    "give a smaller decay, or packnet_pl.training.ExponentialAverage, whose decay grows with the steps"
                )

    def _unbegun(self) -> list[Any]:
        return [callback for callback, at_start in self._counts.items() if not _has_begun(callback, at_start)]


def use_averages_of_skipped_training(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Takes the averages of a fit that resumed with nothing left to train: Lightning calls no hook of training then."""
    for callback in averaging_callbacks(trainer.callbacks):  # type: ignore[attr-defined]
        if isinstance(callback, of_both(WeightAveraging)) and _count(callback):
            callback.on_train_end(trainer, module)


def use_schedule_free_averages(optimizers: Iterable[Any]) -> None:
    """Takes the averaged weights of schedule-free optimizers; swapped in later, they would move frozen ones."""
    for optimizer in optimizers:
        if any(group.get("train_mode") for group in optimizer.param_groups) and hasattr(optimizer, "eval"):
            optimizer.eval()


def use_final_average(checkpoint: dict[str, Any]) -> None:
    """Puts the present weights, which are the average already, into a checkpoint that is written after a fit.

    They were pruned and restored since, and Lightning would write the average once more.
    """
    if "current_model_state" in checkpoint:
        checkpoint["state_dict"] = checkpoint["current_model_state"]


def freeze_in_average_(
    packnet: PackNet, module: pl.LightningModule, state_dict: dict[str, Any], outside: Iterable[Tensor] = ()
) -> None:
    """Restores in ``state_dict`` the bits of everything that the open task may not change: an average rounds.

    Args:
        packnet: With an open task.
        module: Has the weights as they are.
        state_dict: Of ``module``, with averaged weights; entries are replaced, not written to.
        outside: Parameters and buffers outside the shared module that are frozen too.
    """
    keys = {id(tensor): key for key, tensor in module.state_dict(keep_vars=True).items()}
    inventory = packnet.inventory()
    for name, trainable in packnet.state.trainable().items():
        weight = inventory.owned[name].now
        key = keys[id(weight)]
        state_dict[key] = torch.where(trainable, state_dict[key].to(weight.device), weight.detach())
    shared = [slot.now for slot in inventory.frozen.values()] if packnet.tasks else []
    names = [name for task in packnet.tasks for name in packnet.private.get(task, [])]
    for tensor in [*shared, *private_tensors(module, names).values(), *outside]:
        if id(tensor) in keys:  # no state dict has a buffer that is not persistent
            state_dict[keys[id(tensor)]] = tensor.detach().clone()


def _count(callback: Any) -> int:
    average = callback._average_model
    count = average.n_averaged if isinstance(average, AveragedModel) else getattr(callback, "n_averaged", None)
    return 0 if count is None else int(count)


def _share_of_first(callback: Any) -> float:
    """Returns how much the weights of the first of several updates make up in an exponential average; 0 elsewhere."""
    if not isinstance(callback, of_both(EMAWeightAveraging)) or _count(callback) < 2:
        return 0.0
    decay = float(callback._kwargs["avg_fn"](torch.tensor(1.0), torch.tensor(0.0), 1))
    return decay ** (_count(callback) - 1)


def _has_begun(callback: Any, at_start: int) -> bool:
    if isinstance(callback._average_model, AveragedModel):
        return _count(callback) > 0
    if isinstance(callback, of_both(StochasticWeightAveraging)):
        # It counts on if it served an earlier fit; what a checkpoint brought of its average stands beside the count.
        return callback._init_n_averaged > 0 or _count(callback) != at_start
    return True


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())
