"""Checks of fits under ``ModelParallelStrategy``, in which each process has rows of the parameters."""

from collections.abc import Sequence
from typing import Any

from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn

from packnet_pl.core.shards import is_shard
from packnet_pl.training.recalibration import RecalibrateNorms
from packnet_pl.training.teacher import DenseTeacher
from packnet_pl.training.weight_averaging import averaging_callbacks

__all__ = ["check_all_sharded", "check_model_parallel"]


def check_model_parallel(strategy: ModelParallelStrategy, callbacks: Sequence[Any]) -> None:
    """Checks that a strategy divides parameters by rows, and that nothing in the fit copies the whole network.

    Args:
        strategy: Of the Trainer, whose processes know each other.
        callbacks: Of the Trainer.

    Raises:
        ValueError: Otherwise.
    """
    name, columns = type(strategy).__name__, strategy._tensor_parallel_size
    if columns != 1:
        raise ValueError(
            f"{name} was given tensor_parallel_size={columns!r}: only rows can be divided among processes, as ties go "
            "to the lower index; give data_parallel_size=N, tensor_parallel_size=1"
        )
    if not strategy._save_distributed_checkpoint:
        raise ValueError(
            f"{name} was given save_distributed_checkpoint=False, which gathers the weights in one process, and knows "
            "nothing of owners: leave it out, and checkpoints are folders"
        )
    copying = [
        *averaging_callbacks(callbacks),
        *(c for c in callbacks if isinstance(c, (DenseTeacher, RecalibrateNorms))),
    ]
    if copying:
        raise ValueError(
            f"{type(copying[0]).__name__} under {name}: it copies the network, and torch cannot copy one that "
            "fully_shard has divided; leave it out, or train with strategy='ddp'"
        )


def check_all_sharded(module: nn.Module) -> None:
    """Checks that all that learns is divided among the processes: gradients of other parameters are not averaged.

    Raises:
        ValueError: Otherwise; it names one.
    """
    names = [
        name for name, parameter in module.named_parameters() if parameter.requires_grad and not is_shard(parameter)
    ]
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise ValueError(
            f"{names[0]}{more} would be trained by each process for itself: ModelParallelStrategy averages gradients "
            "only of what fully_shard was given; give it to packnet_pl.training.shard_ in configure_model(), as the "
            "shared part, or set requires_grad_(False)"
        )
