"""PackNet in a Lightning fit: when to mask, restore, prune and finish. What these do is in ``packnet_pl.core``."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelPruning, WeightAveraging
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from packnet_pl.choices import PHASES, Granularity, Phase, Scope, check_choice, check_ratio, check_task_name
from packnet_pl.core import PackNet
from packnet_pl.core.conversion import take_types_
from packnet_pl.core.pruning import PruneRule, check_rule, rule_of
from packnet_pl.distributed import broadcast_
from packnet_pl.training.best_epoch import BestEpoch
from packnet_pl.training.divergence import check_finite_weights
from packnet_pl.training.families import base_of_both, of_both, overrides
from packnet_pl.training.mixin import PackNetMixin
from packnet_pl.training.optimizer_hooks import StepWatch
from packnet_pl.training.outside import Outside, Snapshot, check_free_names
from packnet_pl.training.private_modules import (
    PrivateHold,
    Untrained,
    check_private_names,
    frozen_parameters,
    private_parameters,
)
from packnet_pl.training.protocols import packnet_of as _packnet
from packnet_pl.training.protocols import private_modules_of, selected_task_of
from packnet_pl.training.trainer_checks import (
    check_module,
    check_precision,
    check_same_on_all_ranks,
    check_strategy,
    expect_unused_parameters,
    raise_on_all_ranks,
    warn_of_lost_tasks,
)
from packnet_pl.training.weight_averaging import (
    UnbegunAverages,
    averaging_callbacks,
    check_averages_begin,
    keep_in_average,
)

__all__ = ["PackNetCallback"]

if TYPE_CHECKING:
    from pytorch_lightning import Callback as _Callback
else:
    _Callback = base_of_both(pl.Callback)


class PackNetCallback(_Callback):
    """Trains one task of a LightningModule that has a ``packnet`` attribute, for one phase of the task.

    In phase "train" the task claims the free weights (or goes on, if it is open already), and is pruned in
    ``on_fit_end``. In phase "retrain" the pruned weights stay zero, and the task is finished in ``on_fit_end``. Nothing
    is pruned or finished after an exception or Ctrl-C.

    Args:
        task: Name of the task.
        phase: "train" or "retrain".
        prune_ratio: For phase "train": share of the task's weights to release, in [0, 1); None prunes nothing and
            finishes the task at the end of this phase.
        rule: How it is pruned: by which score, counted and ranked where, and in which units. None is the paper's.
        scope: In short for ``PruneRule(scope=...)``: "layer" or "global".
        granularity: In short for ``PruneRule(granularity=...)``: "weight" or "filter".
        private: Name of a module of this task alone, or several, as ``get_submodule`` takes them: frozen with the task.
            None asks the module's ``private_modules(task)`` if it has that method.
        free: Name of a module, parameter or buffer outside the shared part that may change although finished tasks may
            use it, or several. Whatever else learns there, and is no task's own, is refused.
        select: "last" keeps the last epoch's weights, "best" those of the best validation epoch.
        monitor: For "best": the logged validation metric.
        mode: For "best": "max" or "min"; None is "max", and not allowed for a metric whose name says that it is a loss.
        settled: Called with the module in ``on_fit_end``, when the phase's weights are final and before the task is
            pruned or finished. It must leave the module in the modes it found: the next fit trains in them.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(
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
        settled: Callable[[pl.LightningModule], None] | None = None,
    ) -> None:
        self.task = check_task_name(task)
        self.phase: Phase = check_choice("phase", phase, PHASES)
        if phase == "retrain" and prune_ratio is not None:
            raise ValueError(f"prune_ratio={prune_ratio!r} was given for phase 'retrain'; only phase 'train' prunes")
        if select not in ("last", "best"):
            raise ValueError(f"select is {select!r}; allowed are 'last' and 'best'")
        if select == "last" and (mode is not None or monitor != "val_accuracy"):
            raise ValueError(
                f"monitor={monitor!r} and mode={mode!r} choose the best epoch: give select='best' with them"
            )
        self.prune_ratio = None if prune_ratio is None else check_ratio(prune_ratio)
        self.rule = rule_of(rule, scope, granularity)
        self._private = [private] if isinstance(private, str) else private
        self._free = [free] if isinstance(free, str) else list(free)
        self.best = BestEpoch(monitor, mode) if select == "best" else None
        self._settled = settled
        self._others: PrivateHold | None = None
        self._outside: Outside | None = None
        self._untrained: Untrained | None = None
        self._before: Snapshot | None = None
        self._begun = self._stepped = self._averages = False
        self._steps: StepWatch | None = None
        self._unbegun: UnbegunAverages | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Checks what can be checked, and makes what is frozen need no gradient (before DDP wraps the module)."""
        if stage != "fit":
            return
        others = [c for c in trainer.callbacks if isinstance(c, PackNetCallback)]  # type: ignore[attr-defined]
        if len(others) > 1:
            raise ValueError(
                f"{len(others)} PackNetCallbacks in one Trainer; a fit trains one task in one phase: keep one"
            )
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, of_both(ModelPruning)):
                raise ValueError(
                    f"{type(callback).__name__} beside PackNetCallback: it prunes the weights of all tasks alike; "
                    "leave it out, and give PackNetCallback a prune_ratio"
                )
        self._averages = bool(averaging_callbacks(trainer.callbacks))  # type: ignore[attr-defined]
        if self.best and self._averages:
            raise ValueError(
                "select='best' with an averaging callback: the weights at the end are either the average or those of "
                "the best epoch; use select='last', or leave the averaging out"
            )
        if self.best:
            self.best.check_trainer(trainer)
        self._go_behind_averages(trainer)
        check_strategy(trainer.strategy)
        check_averages_begin(trainer)
        if getattr(pl_module, "packnet", None) is None and overrides(pl_module, "configure_model"):
            # It builds its layers later, and on_fit_start looks again.
            expect_unused_parameters(trainer, pl_module, used=None)
            return
        packnet = _packnet(pl_module)
        check_module(packnet, pl_module)
        check_precision(trainer.precision, packnet)
        # What is open and finished is checked in on_fit_start: a checkpoint may still bring its own state.
        private = self._private_modules(pl_module)
        check_free_names(packnet, pl_module, self._free, private)
        self._stop_gradients(pl_module)
        sure = [packnet.module, *(pl_module.get_submodule(name) for name in private)]
        used = {id(parameter) for module in sure for parameter in module.parameters()}
        expect_unused_parameters(trainer, pl_module, used)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Takes over the PackNet state of the checkpoint."""
        if "packnet" not in checkpoint:
            raise ValueError("the checkpoint holds no PackNet state: it was not written by a fit with PackNetCallback")
        take_types_(pl_module, checkpoint.get("state_dict", {}))
        _packnet(pl_module).load_state_dict(checkpoint["packnet"])
        if trainer.state.fn == "fit":
            check_precision(trainer.precision, _packnet(pl_module))
            self._check(_packnet(pl_module), pl_module)
            self._stop_gradients(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Puts the PackNet state into the checkpoint, beside the weights that it belongs to."""
        if self._steps is not None and _packnet(pl_module).open_task is not None:
            self._restore(pl_module)
            self._follow(pl_module)
            if any(isinstance(c, of_both(WeightAveraging)) for c in trainer.callbacks):  # type: ignore[attr-defined]
                outside = self._outside.tensors() if self._outside is not None else []
                keep_in_average(_packnet(pl_module), pl_module, checkpoint["state_dict"], outside)
        elif "current_model_state" in checkpoint:
            # The fit is over, and its average is in the weights, which were pruned and restored since.
            checkpoint["state_dict"] = checkpoint["current_model_state"]
        if "packnet" not in checkpoint:
            checkpoint["packnet"] = _packnet(pl_module).state_dict(pl_module)
        if not isinstance(pl_module, PackNetMixin):
            rank_zero_warn(
                f"{type(pl_module).__name__}.load_from_checkpoint() will know no task of the checkpoints that are "
                f"written now: make it class {type(pl_module).__name__}(PackNetMixin, ...), from packnet_pl, or "
                "call PackNet.from_checkpoint(module.backbone, path) after it"
            )

    def state_dict(self) -> dict[str, Any]:
        """Returns the best epoch so far, if there is a choice."""
        return {"best": self.best.state_dict()} if self.best else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what :meth:`state_dict` returned."""
        if self.best and "best" in state_dict:
            self.best.load_state_dict(state_dict["best"])

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Opens the task, or goes on with it, and watches every step of every optimizer."""
        check_same_on_all_ranks(trainer, _packnet(pl_module))
        error: Exception | None = None
        self._before, self._stepped = Snapshot(pl_module), False
        self._begun = _packnet(pl_module).open_task is None
        try:
            self._open(pl_module)
        except Exception as raised:
            error = raised
        raise_on_all_ranks(trainer, error)
        self._others = PrivateHold(_packnet(pl_module), pl_module)
        self._unbegun = UnbegunAverages(trainer.callbacks)  # type: ignore[attr-defined]
        self._untrained = Untrained(_packnet(pl_module), pl_module)
        self._outside = Outside(_packnet(pl_module), pl_module, self._free, lambda: trainer.optimizers)
        self._steps = StepWatch(trainer.optimizers, lambda stepped: self._after_step(pl_module, stepped))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restores at the begin of an epoch: some optimizers and callbacks swap weights for validation."""
        assert self._steps is not None
        self._steps.seen = 0
        if batch_idx == 0:
            self._restore(pl_module)
            self._look_outside_again(pl_module)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuses what learns outside; masks gradients early in manual optimization: a step may go past Lightning."""
        self._look_outside(pl_module, unseen=not pl_module.automatic_optimization)
        if not pl_module.automatic_optimization:
            self._mask(pl_module)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Masks gradients; Lightning clips after this, so that frozen weights do not count."""
        self._mask(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Restores where a step may have gone unseen, and the buffers that layers wrote to."""
        assert self._steps is not None
        if not self._steps.seen or not pl_module.automatic_optimization:
            self._restore(pl_module)
        else:
            _packnet(pl_module).freezer.restore_buffers_()
        self._look_outside(pl_module, unseen=not self._steps.seen)
        if self._stepped:
            self._before = None  # a batch after the first step brought nothing either
        self._stepped = self._stepped or bool(self._steps.seen) or not pl_module.automatic_optimization

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lets an average that has not begun be the weights: it is validated in their place."""
        self._follow(pl_module)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Restores, during a fit, what was moved by a swap of weights for validation."""
        if self._steps is not None and batch_idx == 0:
            self._restore(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks whether this epoch is the best one."""
        if self.best and trainer.sanity_checking:
            self.best.check_metrics(trainer)
        elif self.best and trainer.state.fn == "fit":
            self.best.update(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs what the task owns and what is free, as fractions of all prunable weights."""
        self._follow(pl_module)
        total = _packnet(pl_module).summary().total
        fractions = {"packnet/owned": total.fraction(self.task), "packnet/free": total.free_fraction}
        pl_module.log_dict(fractions, sync_dist=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the averaged weights of schedule-free optimizers; swapped in later, they would move frozen ones."""
        assert self._unbegun is not None
        for name in self._unbegun.names():
            rank_zero_warn(
                f"{name} never updated its average in this fit, so the trained weights are used as they are: its start "
                "lies behind the end of the fit, or the callback has served a fit before (make a new one for each)"
            )
        for name, step in self._unbegun.stale(trainer.global_step).items():
            rank_zero_warn(
                f"{name} updated its average in step {step} of {trainer.global_step} alone, so the weights of that "
                "step are kept, as it asks: what was learned later is lost; let it update more often"
            )
        for optimizer in trainer.optimizers:
            if any(group.get("train_mode") for group in optimizer.param_groups) and hasattr(optimizer, "eval"):
                optimizer.eval()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prunes or finishes the task.

        Raises:
            DivergedError: If a parameter or running statistic of the shared module or a private one is not finite.
        """
        packnet = _packnet(pl_module)
        assert self._untrained is not None
        self._untrained.warn()
        if self.best:
            self.best.restore_(pl_module)
            if self.best.score is None:
                rank_zero_warn(
                    f"select='best' found no epoch in which {self.best.monitor!r} is a number: the last epoch is kept"
                )
        # Averaging callbacks have written to every weight meanwhile, and the strategy may have replaced layers.
        packnet.freezer.restore_all_()
        assert self._others is not None
        self._others.settle_()
        assert self._outside is not None
        self._outside.settle_(warn=not self._averages)
        agree = broadcast_ if trainer.world_size > 1 else None
        if agree:
            # Statistics that each process gathered by itself, and its choice of the best epoch, become the first's.
            agree([*pl_module.parameters(), *pl_module.buffers()])
        for module in [packnet.module, *map(pl_module.get_submodule, packnet.private.get(self.task, []))]:
            check_finite_weights(module, self.task, self.phase)
        # What the live network answers from here on is what it is to answer for good: see PackNet.subnetwork.
        packnet.requires_grad.restore()
        if self._settled:
            self._settled(pl_module)
        if self.phase == "train" and self.prune_ratio is not None:
            packnet.prune(self.prune_ratio, rule=self.rule, agree=agree)
        else:
            packnet.finish_task(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leaves no trace; the task stays open."""
        try:
            # It may have come in the middle of an optimizer's step.
            if self._steps is not None and _packnet(pl_module).open_task is not None:
                self._restore(pl_module)
                if self._outside is not None:
                    self._outside.restore_()
        finally:
            self._detach(pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leaves no trace."""
        self._detach(pl_module)

    def _open(self, pl_module: pl.LightningModule) -> None:
        packnet = _packnet(pl_module)
        self._check(packnet, pl_module)
        check_free_names(packnet, pl_module, self._free, self._private_modules(pl_module))
        if packnet.open_task is None:
            warn_of_lost_tasks(packnet)
            packnet.begin_task(self.task, private=self._private_modules(pl_module), root=pl_module)
        else:
            if self._private is not None and self._private_modules(pl_module) != packnet.private.get(self.task, []):
                raise ValueError(
                    f"private={self._private!r} was given, but task {self.task!r} was begun with "
                    f"private={packnet.private.get(self.task, [])!r}; give the same in both phases"
                )
            packnet.resume_task(pl_module)

    def _go_behind_averages(self, trainer: pl.Trainer) -> None:
        """Moves itself behind averaging callbacks, whose averages it corrects in checkpoints."""
        callbacks = [c for c in trainer.callbacks if c is not self]  # type: ignore[attr-defined]
        behind = max((i + 1 for i, c in enumerate(callbacks) if isinstance(c, of_both(WeightAveraging))), default=0)
        if behind > trainer.callbacks.index(self):  # type: ignore[attr-defined]
            trainer.callbacks = [*callbacks[:behind], self, *callbacks[behind:]]  # type: ignore[attr-defined]

    def _check(self, packnet: PackNet, pl_module: pl.LightningModule) -> None:
        given = f"PackNetCallback(task={self.task!r}, phase={self.phase!r})"
        if self.task in packnet.tasks:
            raise ValueError(
                f"{given}: that task is finished and frozen; finished are {packnet.tasks}: choose a new name"
            )
        if packnet.open_task not in (None, self.task):
            raise ValueError(f"{given}: {packnet.open_task!r} is open; fit that first, or packnet.abort_task()")
        if (packnet.phase or "train") != self.phase:
            state = f"in phase {packnet.phase!r}" if packnet.phase else "not open: fit it in phase 'train' first"
            raise ValueError(f"{given}: the task is {state}")
        if self.prune_ratio is not None:
            check_rule(self.rule, packnet.state, packnet.inventory())
        selected = selected_task_of(pl_module, self.task)
        if selected != self.task:
            raise ValueError(f"{given}: the module's selected task is {selected!r}; select_task({self.task!r}) first")

    def _private_modules(self, pl_module: pl.LightningModule) -> list[str]:
        names = self._private if self._private is not None else private_modules_of(pl_module, self.task)
        return check_private_names(_packnet(pl_module), pl_module, names)

    def _stop_gradients(self, pl_module: pl.LightningModule) -> None:
        packnet = _packnet(pl_module)
        packnet.requires_grad.turn_off([*frozen_parameters(packnet), *private_parameters(packnet, pl_module)])

    def _follow(self, pl_module: pl.LightningModule) -> None:
        if self._unbegun is not None:
            self._unbegun.follow_(pl_module)

    def _mask(self, pl_module: pl.LightningModule) -> None:
        _packnet(pl_module).mask_gradients_()
        if self._others is not None:
            self._others.mask_gradients_()

    def _restore(self, pl_module: pl.LightningModule, of: list[Tensor] | None = None) -> None:
        _packnet(pl_module).restore_(of)
        if self._others is not None:
            self._others.restore_(of)

    def _after_step(self, pl_module: pl.LightningModule, stepped: list[Tensor] | None) -> None:
        if not pl_module.automatic_optimization:
            self._look_at_gradients(pl_module)  # the backward pass may have gone past Lightning
        self._restore(pl_module, stepped)
        if self._outside is not None:
            self._outside.restore_(stepped)

    def _look_at_gradients(self, pl_module: pl.LightningModule) -> None:
        assert self._outside is not None
        assert self._untrained is not None
        self._untrained.look()
        self._refusing(pl_module, self._outside.refuse_learning)

    def _look_outside(self, pl_module: pl.LightningModule, *, unseen: bool) -> None:
        assert self._outside is not None
        self._look_at_gradients(pl_module)
        outside, sure = self._outside, self._before is not None  # in the first batches: not every kernel tells
        self._refusing(pl_module, lambda: outside.look(sure=sure, unseen=unseen))

    def _look_outside_again(self, pl_module: pl.LightningModule) -> None:
        """Finds and looks at everything outside, at the begin of an epoch."""
        assert self._outside is not None
        if not self._stepped and not _packnet(pl_module).tasks:
            self._outside.take()  # what the module's own hooks have set up for its first task, as class weights
        if self._averages:
            self._outside.settle_(warn=False)  # averages of what does not change are rounded
        else:
            outside = self._outside
            self._refusing(pl_module, lambda: outside.look(sure=True, unseen=True))

    def _refusing(self, pl_module: pl.LightningModule, check: Callable[[], None]) -> None:
        """Leaves all as it was before the fit if ``check`` refuses it, unless it has trained for a while."""
        try:
            check()
        except ValueError:
            if self._before is not None:
                self._before.put_back_()
                if self._begun:
                    _packnet(pl_module).withdraw_task()
            raise

    def _detach(self, pl_module: pl.LightningModule) -> None:
        if self._steps is not None:
            self._steps.remove()
        if self._others is not None:
            self._others.remove()
        packnet = getattr(pl_module, "packnet", None)
        if isinstance(packnet, PackNet):
            packnet.requires_grad.restore()
        self._steps = self._others = self._unbegun = self._outside = self._untrained = self._before = None
