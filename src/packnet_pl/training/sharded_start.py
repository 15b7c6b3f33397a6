"""The start of a sharded fit: the network is divided first, and a checkpoint is loaded last."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from packnet_pl.core.gradients import RequiresGrad
from packnet_pl.core.plain_shards import read_index
from packnet_pl.training.packnet_checkpoint import load_packnet_from
from packnet_pl.training.strategy_hooks import StrategyHooks
from packnet_pl.training.task_phase import TaskPhase

__all__ = ["ShardedStart"]


class ShardedStart:
    """Sets a phase up when the network was divided, and once more when a checkpoint says which tasks there are.

    Args:
        trainer: Of the fit.
        module: Is divided in ``configure_model``.
        task_phase: What is to be fitted.
    """

    def __init__(self, trainer: pl.Trainer, module: pl.LightningModule, task_phase: TaskPhase) -> None:
        self._trainer, self._module, self._task_phase = trainer, module, task_phase
        self._hooks = StrategyHooks(trainer, before_optimizers=self._set_up, before_loading=self._load)

    def end(self) -> None:
        """Removes its hooks."""
        self._hooks.remove()

    def _set_up(self) -> None:
        self._task_phase.set_up(self._trainer, self._module)

    def _load(self, path: Path, checkpoint: Mapping[str, Any]) -> Callable[[], None]:
        if checkpoint.get("optimizer_states"):
            raise ValueError(
                f"{path} was written by one process, or by DDP, and this fit is sharded, so optimizer states cannot "
                "be divided: load it into the module (load_from_checkpoint), and begin the phase anew without ckpt_path"
            )
        load_packnet_from(path, self._module, checkpoint)
        self._task_phase.set_up_again(self._trainer, self._module)
        self._trainer.strategy.setup_optimizers(self._trainer)  # what is frozen is none of theirs
        return _turn_off(_without_state(path, self._module) if path.is_dir() else [])


def _without_state(path: Path, module: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters that learn, and that no optimizer has a state for in a checkpoint.

    Such is the head of a later task, which has had no gradient. torch refuses to load without their states, as long as
    they require a gradient.
    """
    keys = (name.split(".state.", 1) for name in read_index(path).state_dict_metadata)
    known = {key[1].rpartition(".")[0] for key in keys if len(key) == 2 and key[0].startswith("optimizer_")}
    return [p for name, p in module.named_parameters() if p.requires_grad and name not in known]


def _turn_off(parameters: Iterable[nn.Parameter]) -> Callable[[], None]:
    requires_grad = RequiresGrad()
    requires_grad.turn_off(parameters)
    return requires_grad.restore
