"""Refuses, before a run begins, what a network cannot do whose rows are divided among processes (``trainer=fsdp``)."""

import pytorch_lightning as pl
from omegaconf import DictConfig

from packnet_pl.configuration.callbacks import build_callbacks
from packnet_pl.configuration.instantiate import build_target
from packnet_pl.configuration.task_settings import AUTO
from packnet_pl.container import narrow_shapes
from packnet_pl.core.pruning import check_sharded_rule
from packnet_pl.errors import UsageError
from packnet_pl.packed import Packed
from packnet_pl.training import MultiHeadClassifier, ShardedStrategy
from packnet_pl.training.model_parallel import check_model_parallel

__all__ = ["check_sharded_run"]


def check_sharded_run(
    config: DictConfig, trainer: pl.Trainer, model: MultiHeadClassifier, packed: Packed | None
) -> None:
    """Checks, if the network is to be sharded, that the run asks for nothing that needs the whole of it.

    Args:
        config: Checked.
        trainer: Such as the run will make.
        model: The network, without tasks.
        packed: What the run goes on from, or None.

    Raises:
        UsageError: Otherwise.
    """
    if not isinstance(trainer.strategy, ShardedStrategy):
        return
    given, why = _refused_here(config, model, packed)
    if given:
        raise UsageError(f"{given} was given with trainer=fsdp: {why}; leave it out, or give trainer=ddp")
    try:
        check_sharded_rule(build_target(config.prune.rule, "prune.rule"))
        check_model_parallel(trainer.strategy, _callbacks(config, model))
    except ValueError as error:
        raise UsageError(f"trainer=fsdp: {error}") from error


def _refused_here(config: DictConfig, model: MultiHeadClassifier, packed: Packed | None) -> tuple[str, str]:
    """Returns what only a run has, and why it cannot be; two empty texts if there is nothing of it."""
    if model.packnet is None:
        return f"method={config.method.name}", "only a network whose weights tasks divide is sharded, method=packnet"
    if config.trainer.sync_batchnorm:
        return "trainer.sync_batchnorm=true", "Lightning synchronizes batch-norm under DDP only"
    if config.prune.ratio == AUTO:
        return "prune.ratio=auto", "each trial has a copy of the network, and torch copies none that is sharded"
    if config.grow is not None:
        return f"grow={config.grow}", "rows of a wider network are other rows"
    if packed is not None and narrow_shapes(packed.header):
        return f"{packed.path}, whose network has grown,", "rows of a wider network are other rows"
    return "", ""


def _callbacks(config: DictConfig, model: MultiHeadClassifier) -> list[pl.Callback]:
    return [*build_callbacks(config.get("callbacks")), *([model.teacher] if config.optim.distillation else [])]
