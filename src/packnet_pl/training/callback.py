"""The PackNet callback of a Lightning fit: when to mask, restore, prune and finish; ``task_fit`` does it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pytorch_lightning as pl
from torch.optim import Optimizer

from packnet_pl.choices import Granularity, Phase, Scope
from packnet_pl.core.learned_mask import LearnedMask
from packnet_pl.core.pruning import PruneRule, rule_of
from packnet_pl.training.best_epoch import best_epoch
from packnet_pl.training.families import base_of_both
from packnet_pl.training.packnet_checkpoint import load_packnet, write_packnet
from packnet_pl.training.protocols import packnet_of
from packnet_pl.training.sharded_start import ShardedStart
from packnet_pl.training.sharded_strategy import checkpoint_folder
from packnet_pl.training.strategy_hooks import loads_late
from packnet_pl.training.task_fit import TaskFit
from packnet_pl.training.task_observer import let_observers_change_, tell_observers
from packnet_pl.training.task_phase import TaskPhase
from packnet_pl.training.trainer_checks import check_trainer
from packnet_pl.training.weight_averaging import move_behind_averages, use_final_average

__all__ = ["PackNetCallback"]

if TYPE_CHECKING:
    from pytorch_lightning import Callback as _Callback
else:
    _Callback = base_of_both(pl.Callback)


class PackNetCallback(_Callback):  # noqa: PLR0904 - most are hooks of Lightning
    """Trains one task of a LightningModule that has a ``packnet`` attribute, for one phase of the task.

    In phase "train" the task claims the free weights (or goes on, if it is open already), and is pruned in
    ``on_fit_end``. In phase "retrain" the pruned weights stay zero, and the task is finished in ``on_fit_end``; with
    ``rule=PruneRule(schedule="gradual")`` it is pruned on at the begin of epochs. Nothing is pruned or finished after
    an exception or Ctrl-C.

    Args:
        task: Name of the task.
        phase: "train" or "retrain".
        prune_ratio: For phase "train": share of the task's weights to release, in [0, 1); None prunes nothing and
            finishes the task at the end of this phase. With a gradual rule, the same for phase "retrain".
        rule: How it is pruned: by which score, counted and ranked where, in which units, and when. None is the paper's.
        scope: In short for ``PruneRule(scope=...)``: "layer" or "global".
        granularity: In short for ``PruneRule(granularity=...)``: "weight" or "filter".
        private: Name of a module of this task alone, or several, as ``get_submodule`` takes them: frozen with the task.
            None asks the module's ``private_modules(task)`` if it has that method.
        free: Name of a module, parameter or buffer outside the shared part that may change although finished tasks may
            use it, or several. Whatever else learns there, and is no task's own, is refused.
        select: "last" keeps the last epoch's weights, "best" those of the best validation epoch.
        monitor: For "best": the logged validation metric.
        mode: For "best": "max" or "min"; None is "max", and not allowed for a metric whose name says that it is a loss.
        mask: "all" computes with all weights of earlier tasks (the paper's). "learned" learns in phase "train" which of
            them the task uses; :class:`packnet_pl.LearnedMask` says how. It is fixed when the task is pruned, and then
            the task's for good.
        settled: Called with the module in ``on_fit_end``, when the phase's weights are final and before the task is
            pruned or finished. It must leave the module in the modes it found: the next fit trains in them.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(  # noqa: PLR0913 - by keyword, as in fit_task
        self,
        *,
        task: str,
        phase: Phase,
        prune_ratio: float | None = None,
        rule: PruneRule | None = None,
        scope: Scope | None = None,
        granularity: Granularity | None = None,
        private: str | Sequence[str] | None = None,
        free: str | Sequence[str] = (),
        select: Literal["last", "best"] = "last",
        monitor: str = "val_accuracy",
        mode: Literal["max", "min"] | None = None,
        mask: LearnedMask | Literal["all", "learned"] | None = None,
        settled: Callable[[pl.LightningModule], None] | None = None,
    ) -> None:
        self._task_phase = TaskPhase(
            task, phase, prune_ratio, rule_of(rule, scope, granularity), private=private, free=free, mask=mask
        )
        self.task, self.phase, self.prune_ratio = task, phase, self._task_phase.prune_ratio
        self.best = best_epoch(select, monitor, mode)
        self._settled = settled
        self._fit: TaskFit | None = None
        self._sharded_start: ShardedStart | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Checks what can be checked, and makes what is frozen need no gradient (before DDP wraps the module)."""
        if stage == "fit":
            check_trainer(trainer, PackNetCallback)
            if self.best:
                self.best.check_trainer(trainer)
            move_behind_averages(trainer, self)
            if loads_late(trainer):
                self._sharded_start = ShardedStart(trainer, pl_module, self._task_phase)
            else:
                self._task_phase.set_up(trainer, pl_module)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Loads the state of PackNet."""
        if self._sharded_start is not None:
            if self.best:
                self.best.load_shards(checkpoint_folder(str(trainer.ckpt_path)), pl_module)
            return  # it was loaded before the weights
        load_packnet(pl_module, checkpoint)
        if trainer.state.fn == "fit":
            self._task_phase.set_up_again(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Writes the state of PackNet beside the weights that it belongs to."""
        if self._fit is not None and packnet_of(pl_module).open_task is not None:
            self._fit.before_saving_(checkpoint["state_dict"])
        else:
            use_final_average(checkpoint)
        if self.best:
            self.best.save_shards(checkpoint)
        write_packnet(pl_module, checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """Returns the best epoch so far, if there is a choice."""
        return {"best": self.best.state_dict()} if self.best else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what :meth:`state_dict` returned."""
        if self.best and "best" in state_dict:
            self.best.load_state_dict(state_dict["best"])

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Opens or resumes the task, and watches every step of every optimizer."""
        if self._sharded_start is None:
            self._fit = TaskFit(trainer, pl_module, self._task_phase)

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Opens or resumes the task where a checkpoint is loaded after ``on_fit_start``."""
        self._open_late(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The same, where nothing was validated before."""
        self._open_late(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restores at the begin of an epoch, and shows the module as the task computes with it."""
        self._going_on.begin_batch(first=batch_idx == 0)
        self._going_on.masked_pass.begin_()

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuses gradients of tensors outside the shared part and the task's own modules."""
        self._going_on.after_backward()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Masks gradients, after a score that is made of them has seen them.

        Lightning clips after this, so that frozen weights do not count. TaskFit restores later.
        """
        self._going_on.before_step(optimizer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Restores the buffers that layers wrote to."""
        self._going_on.end_batch()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lets an average that has not begun be the weights: it is validated in their place."""
        if self._fit is not None:
            self._fit.averages.follow_(pl_module)
            self._fit.share_buffers_()

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Restores, during a fit, what was moved by a swap of weights for validation, and shows what the task uses."""
        if self._fit is None:
            return
        if batch_idx == 0:
            self._fit.restore_()
        self._fit.masked_pass.begin_()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Restores the true weights: averages are swapped out again behind the last batch."""
        if self._fit is not None:
            self._fit.masked_pass.end_()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stores the weights if this epoch is the best one, of those in which all is pruned."""
        gradual = self._fit.gradual if self._fit is not None else None
        if self.best and trainer.state.fn == "fit" and (gradual is None or gradual.is_complete):
            self.best.update(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs what the task owns and what is free, as fractions of all prunable weights."""
        self._going_on.end_epoch()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warns of what was neither trained nor averaged."""
        self._going_on.end_training()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prunes or finishes the task, unless its weights are not finite."""
        self._open_late(trainer, pl_module)  # nothing was left to train
        self._going_on.end_skipped_training_()
        if self.best:
            self.best.restore_(pl_module)
        let_observers_change_(trainer, pl_module)
        self._going_on.make_final_()
        self.complete_pruning_()
        if self._settled:
            self._settled(pl_module)
        tell_observers(trainer, pl_module, self.task, "dense" if self.phase == "train" else "retrained")
        self._going_on.end_task_()
        if self.phase == "train" and self.prune_ratio is not None:
            tell_observers(trainer, pl_module, self.task, "pruned")

    def complete_pruning_(self) -> bool:
        """Releases what gradual pruning has left to release, as the end of the fit does; for whoever measures before.

        Returns:
            Whether anything was left.
        """
        return self._going_on.gradual is not None and self._going_on.gradual.complete_()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Removes its hooks; the task stays open."""
        try:
            if self._fit is not None:
                self._fit.interrupt_()
        finally:
            self._detach(pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Removes its hooks."""
        self._detach(pl_module)

    @property
    def _going_on(self) -> TaskFit:
        assert self._fit is not None, "this hook belongs to a fit"
        return self._fit

    def _detach(self, pl_module: pl.LightningModule) -> None:
        if self._fit is not None:
            self._fit.detach()
        self._fit = None
        if self._sharded_start is not None:
            self._sharded_start.end()
        self._sharded_start = None
        self._task_phase.tear_down(pl_module)

    def _open_late(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._fit is None:
            self._fit = TaskFit(trainer, pl_module, self._task_phase)
