"""One fit of a task: what the hooks of its callback do, from the opening of the task to the end.

One optimizer step, in this order: ``after_backward`` looks for what learns outside, ``before_step`` masks, Lightning
clips, the optimizer steps, ``StepWatch`` calls ``restore_``, ``end_batch`` restores what layers wrote to.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from packnet_pl.core.module_modes import EvalMode
from packnet_pl.core.shards import is_shard, reshard_
from packnet_pl.distributed import broadcast_
from packnet_pl.training.before_fit import BeforeFit
from packnet_pl.training.divergence import check_finite_weights
from packnet_pl.training.gradual_pruning import GradualPruning
from packnet_pl.training.masked_pass import MaskedPass
from packnet_pl.training.optimizer_hooks import StepWatch
from packnet_pl.training.outside import Outside
from packnet_pl.training.private_modules import private_freezer, private_statistics
from packnet_pl.training.protocols import packnet_of
from packnet_pl.training.rank_checks import check_same_on_all_ranks, failing_on_all_ranks
from packnet_pl.training.score_sums import ScoreSums
from packnet_pl.training.sharding import divided_parts
from packnet_pl.training.task_phase import TaskPhase
from packnet_pl.training.untrained import Untrained
from packnet_pl.training.weight_averaging import (
    Averages,
    use_averages_of_skipped_training,
    use_schedule_free_averages,
)

__all__ = ["TaskFit"]


class TaskFit:
    """Freezes, watches and averages while one phase of a task is trained. Making it opens the task.

    Args:
        trainer: Its optimizers are there, and its checkpoint is loaded.
        module: The whole module, with a PackNet.
        task_phase: What is to be fitted.

    Attributes:
        averages: The averages of the fit.
        masked_pass: Shows the module as the task computes with it.
        gradual: Prunes the task on in this fit; None if it is not pruned gradually, or not yet.

    Raises:
        CapacityError: If no weight is free.
        RuntimeError: If a finished task's weights were changed from outside.
        ValueError: If this task cannot be fitted now, or the processes know different tasks.
    """

    def __init__(self, trainer: pl.Trainer, module: pl.LightningModule, task_phase: TaskPhase) -> None:
        packnet = packnet_of(module)
        reshard_(module)
        check_same_on_all_ranks(trainer, packnet)
        self._trainer, self._module, self._packnet = trainer, module, packnet
        self._processes = packnet.inventory().processes
        shared = {id(part) for part in packnet.module.modules()}  # its own business
        self._divided_outside = [part for part in divided_parts(module) if id(part) not in shared]
        self._before: BeforeFit | None = BeforeFit(module, packnet)
        with failing_on_all_ranks(trainer):
            task_phase.open_(module)
        self._task_phase, self._trained, self._ended = task_phase, False, False
        self.gradual = self._gradual_pruning()
        score = task_phase.gradient_score
        self._sums = None if score is None else ScoreSums(trainer, packnet, score)
        self._private = private_freezer(packnet, module)
        self._untrained = Untrained(packnet, module)
        self._outside = Outside(packnet, module, task_phase.free, lambda: trainer.optimizers)
        self.averages = Averages(trainer.callbacks)  # type: ignore[attr-defined]
        # What leaves a trace comes last.
        self._steps = StepWatch(trainer.optimizers, self._after_step)
        self.masked_pass = MaskedPass(packnet, task_phase.task, task_phase.phase)
        self._private_modes = EvalMode()
        self._private_modes.keep(private_statistics(packnet, module))

    def before_step(self, optimizer: Any) -> None:
        """Adds gradients to what the prune score is made of, and masks them."""
        if self._sums is not None:
            self._sums.before_step(optimizer)
        self.mask_gradients_()

    def mask_gradients_(self) -> None:
        """Zeroes the gradients of all that is frozen."""
        self.masked_pass.end_()  # a batch without a loss has no backward pass
        self.masked_pass.schedule_(self._trainer.optimizers)
        self._packnet.mask_gradients_()
        self._private.mask_gradients_()

    def restore_(self, of: Iterable[Tensor] | None = None) -> None:
        """Restores all that is frozen; ``of`` as for :meth:`PackNet.restore_`."""
        for part in self._divided_outside:
            part.reshard()
        self._packnet.restore_(of)
        self._private.restore_(of)

    def begin_batch(self, *, first: bool) -> None:
        """Restores at the begin of an epoch, as some optimizers and callbacks swap weights for validation; prunes on.

        Args:
            first: Whether it is the first batch of an epoch.
        """
        self._steps.seen = 0
        if first:
            self.restore_()
            self._look_outside_anew()
            if self.gradual is not None:
                self.gradual.begin_epoch_()

    def after_backward(self) -> None:
        """Refuses what learns outside; masks gradients early in manual optimization: a step may go past Lightning.

        Raises:
            ValueError: If it is the second backward pass for a batch, and the task has a mask.
        """
        with self._undone_if_refused():
            self.masked_pass.check_begun()
        self.masked_pass.end_()
        self._look_outside(unseen=self._is_manual)
        if self._is_manual:
            self.mask_gradients_()

    def end_batch(self) -> None:
        """Restores where a step may have gone unseen, and the buffers that layers wrote to."""
        self.masked_pass.end_()
        if self._steps.seen and not self._is_manual:
            self._packnet.freezer.restore_buffers_()
            with self._undone_if_refused():
                self._look_at_values(unseen=False)  # at gradients, each step has looked
        else:
            self.restore_()
            self._look_outside(unseen=not self._steps.seen)
        if self._trained:
            self._before = None  # a batch after the first step brought nothing either
        self._trained = self._trained or bool(self._steps.seen) or self._is_manual

    def before_saving_(self, state_dict: dict[str, Any]) -> None:
        """Restores all that is frozen in the module, and in ``state_dict``, in which the weights may be averages."""
        self.masked_pass.end_()
        self.restore_()
        if self._processes is not None:
            self.share_buffers_()
            state_dict |= self._trainer.strategy.lightning_module_state_dict()  # the first one may be copies
        self.averages.follow_(self._module)
        self.averages.freeze_in_(state_dict, self._module, self._outside.tensors())

    def share_buffers_(self) -> None:
        """Copies buffers from the first process, where each moves its own although the network is shared by all.

        DDP does so before each forward pass. Here it is done where they are used or saved: in training, batch-norm uses
        none of its statistics.
        """
        if self._processes is not None:
            self._processes.copy_first_(buffer for buffer in self._module.buffers() if not is_shard(buffer))

    def end_epoch(self) -> None:
        """Logs what the task owns and what is free, as fractions of all prunable weights."""
        self.masked_pass.end_()  # a hook may have skipped the rest of the epoch
        self.averages.follow_(self._module)
        total = self._packnet.summary().total
        fractions = {"packnet/owned": total.fraction(self._task_phase.task), "packnet/free": total.free_fraction}
        self._module.log_dict(fractions, sync_dist=True)

    def end_training(self) -> None:
        """Warns of what was neither trained nor averaged, and takes the averages of schedule-free optimizers."""
        self._ended = True
        self.averages.warn(self._trainer.global_step)
        self._untrained.warn()
        use_schedule_free_averages(self._trainer.optimizers)

    def end_skipped_training_(self) -> None:
        """Takes the averages if there was nothing left to train, as behind the last checkpoint of a killed run."""
        if not self._ended:
            use_averages_of_skipped_training(self._trainer, self._module)

    def make_final_(self) -> None:
        """Sets the weights that the task ends with: all that is frozen restored, and the same in each process.

        Raises:
            DivergedError: If a parameter or running statistic of the shared module or a private one is not finite.
        """
        # Averaging callbacks have written to every weight meanwhile, and the strategy may have replaced layers.
        reshard_(self._module)
        self._packnet.freezer.restore_all_()
        self._private.restore_all_()
        self._outside.restore_all_(warn=not self.averages)
        if self._trainer.world_size > 1:
            # Statistics that each process gathered by itself, and its choice of the best epoch, become the first's.
            scores = self._packnet.mask_scores.values()
            tensors = [*self._module.parameters(), *self._module.buffers(), *scores]
            broadcast_(tensor for tensor in tensors if not is_shard(tensor))
        own = self._packnet.private.get(self._task_phase.task, [])
        for module in [self._packnet.module, *map(self._module.get_submodule, own)]:
            check_finite_weights(module, self._task_phase.task, self._task_phase.phase)
        # What the live network computes from here on is what it is to compute for good: see PackNet.subnetwork.
        self._packnet.requires_grad.restore()

    def end_task_(self) -> None:
        """Prunes or finishes the task, in all processes alike."""
        self._task_phase.end_(self._module, self._agree)

    def interrupt_(self) -> None:
        """Restores all that is frozen after an exception, which may have come in the middle of an optimizer's step."""
        self.masked_pass.end_()
        reshard_(self._module)
        if self._processes is not None and not all(map(is_shard, self._packnet.module.parameters())):
            return  # it stays gathered in the middle of a pass, in which no optimizer moves anything
        if self._packnet.open_task is not None:
            self.restore_()
            self._outside.restore_()

    def detach(self) -> None:
        """Removes its hooks from optimizers and layers."""
        self._steps.remove()
        self._private_modes.end()

    @property
    def _agree(self) -> Callable[[Iterable[Tensor]], None] | None:
        return broadcast_ if self._trainer.world_size > 1 and self._processes is None else None

    def _gradual_pruning(self) -> GradualPruning | None:
        ratio, rule = self._task_phase.prune_ratio, self._task_phase.rule
        if ratio is None or not self._task_phase.prunes_gradually:
            return None
        return GradualPruning(self._trainer, self._packnet, ratio, rule, self._agree)

    @property
    def _is_manual(self) -> bool:
        return not self._module.automatic_optimization

    def _after_step(self, stepped: list[Tensor] | None) -> None:
        with self._undone_if_refused():
            if self._sums is not None:
                self._sums.after_step()
            self._look_at_gradients(stepped)  # hooks, or a backward pass past Lightning, may have changed them
        self.restore_(stepped)
        self._outside.restore_(stepped)

    def _look_outside(self, *, unseen: bool) -> None:
        with self._undone_if_refused():
            self._look_at_gradients()
            self._look_at_values(unseen=unseen)

    def _look_at_gradients(self, stepped: list[Tensor] | None = None) -> None:
        self._untrained.look()
        self._outside.refuse_learning(stepped)

    def _look_at_values(self, *, unseen: bool) -> None:
        # In the first batches all values are looked at: not every kernel counts what it writes.
        self._outside.look(sure=self._before is not None, unseen=unseen)

    def _look_outside_anew(self) -> None:
        """Finds and checks everything outside, at the begin of an epoch."""
        if not self._trained and not self._packnet.tasks:
            self._outside.freeze()  # as the module's own hooks have set it up for its first task, such as class weights
        if self.averages:
            self._outside.restore_all_(warn=False)  # averages of what does not change are rounded
        else:
            with self._undone_if_refused():
                self._outside.look(sure=True, unseen=True)

    @contextmanager
    def _undone_if_refused(self) -> Iterator[None]:
        """Restores the module as before the fit if what is inside refuses it, unless it has trained for a while."""
        try:
            yield
        except ValueError:
            if self._before is not None:
                self._before.restore_()
            raise
