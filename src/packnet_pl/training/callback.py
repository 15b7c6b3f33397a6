"""PackNet in a Lightning fit: when to mask, restore, prune and finish. What these do is in ``packnet_pl.core``."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import pytorch_lightning as pl
from pytorch_lightning.callbacks import StochasticWeightAveraging, WeightAveraging
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from packnet_pl.core import PackNet, Phase
from packnet_pl.core.freezing import Hold
from packnet_pl.core.prunable import take_inventory
from packnet_pl.core.pruning import Scope, check_ratio, check_scope
from packnet_pl.core.state import check_name
from packnet_pl.training.selection import BestEpoch

__all__ = ["PackNetCallback"]


class PackNetCallback(pl.Callback):
    """Trains one task of a LightningModule that has a ``packnet`` attribute, for one phase of the task.

    In phase "train" the task claims the free weights (or goes on, if it is open already), and is pruned in
    ``on_fit_end``. In phase "retrain" the pruned weights stay zero, and the task is finished in ``on_fit_end``. Nothing
    is pruned or finished after an exception or Ctrl-C.

    Args:
        task: Name of the task.
        phase: "train" or "retrain".
        prune_ratio: For phase "train": share of the task's weights to release, in [0, 1); None prunes nothing and
            finishes the task at the end of this phase.
        scope: "layer" ranks weights in each layer (the paper's), "global" over all layers.
        private: Name of a module of this task alone, or several, as ``get_submodule`` takes them: frozen with the task.
            None asks the module's ``private_modules(task)`` if it has that method.
        select: "last" keeps the last epoch's weights, "best" those of the best validation epoch.
        monitor: For "best": the logged validation metric.
        mode: For "best": "max" or "min".
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
        scope: Scope = "layer",
        private: str | Sequence[str] | None = None,
        select: Literal["last", "best"] = "last",
        monitor: str = "val_accuracy",
        mode: Literal["max", "min"] = "max",
        settled: Callable[[pl.LightningModule], None] | None = None,
    ) -> None:
        self.task = check_name(task)
        if phase not in get_args(Phase):
            raise ValueError(f"phase is {phase!r}; allowed are 'train' and 'retrain'")
        if phase == "retrain" and prune_ratio is not None:
            raise ValueError(f"prune_ratio={prune_ratio!r} was given for phase 'retrain'; only phase 'train' prunes")
        if select not in ("last", "best"):
            raise ValueError(f"select is {select!r}; allowed are 'last' and 'best'")
        self.phase: Phase = phase
        self.prune_ratio = None if prune_ratio is None else check_ratio(prune_ratio)
        self.scope = check_scope(scope)
        self._private = [private] if isinstance(private, str) else private
        self.best = BestEpoch(monitor, mode) if select == "best" else None
        self._settled = settled
        self._others: Hold | None = None
        self._step_hooks: list[RemovableHandle] = []
        self._requires_grad: dict[nn.Parameter, bool] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Checks what can be checked, and makes what is frozen need no gradient (before DDP wraps the module)."""
        if stage != "fit":
            return
        _packnet(pl_module)
        others = [c for c in trainer.callbacks if isinstance(c, PackNetCallback)]  # type: ignore[attr-defined]
        if len(others) > 1:
            raise ValueError(
                f"{len(others)} PackNetCallbacks in one Trainer; a fit trains one task in one phase: keep one"
            )
        averaging = (WeightAveraging, StochasticWeightAveraging)
        if self.best and any(isinstance(c, averaging) for c in trainer.callbacks):  # type: ignore[attr-defined]
            raise ValueError(
                "select='best' with an averaging callback: the weights at the end are either the average or those of "
                "the best epoch; use select='last', or leave the averaging out"
            )
        # What is open and finished is checked in on_fit_start: a checkpoint may still bring its own state.
        self._private_modules(pl_module)
        self._stop_gradients(pl_module)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Takes over the PackNet state of the checkpoint."""
        if "packnet" not in checkpoint:
            raise ValueError("the checkpoint holds no PackNet state: it was not written by a fit with PackNetCallback")
        _packnet(pl_module).load_state_dict(checkpoint["packnet"])
        if trainer.state.fn == "fit":
            self._check(_packnet(pl_module), pl_module)
            self._stop_gradients(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Puts the PackNet state into the checkpoint, beside the weights that it belongs to."""
        if "packnet" not in checkpoint:
            checkpoint["packnet"] = _packnet(pl_module).state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Returns the best epoch so far, if there is a choice."""
        return {"best": self.best.state_dict()} if self.best else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what :meth:`state_dict` returned."""
        if self.best and "best" in state_dict:
            self.best.load_state_dict(state_dict["best"])

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Opens the task, or goes on with it, and watches every step of every optimizer."""
        packnet = _packnet(pl_module)
        self._check(packnet, pl_module)
        if packnet.open_task is None:
            packnet.begin_task(self.task, private=self._private_modules(pl_module))
        else:
            if self._private is not None and self._private_modules(pl_module) != packnet.private.get(self.task, []):
                raise ValueError(
                    f"private={self._private!r} was given, but task {self.task!r} was begun with "
                    f"private={packnet.private.get(self.task, [])!r}; give the same in both phases"
                )
            packnet.hold()
        self._others = Hold({}, {}, self._others_tensors(pl_module))
        # Lightning has no hook right after a step; torch's own fires once for each real step.
        self._step_hooks = [
            optimizer.register_step_post_hook(lambda *_: self._restore(pl_module)) for optimizer in trainer.optimizers
        ]

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Masks gradients; Lightning clips after this, so that frozen weights do not count."""
        _packnet(pl_module).mask_gradients_()
        assert self._others is not None
        self._others.mask_gradients_()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks whether this epoch is the best one."""
        if self.best and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.best.update(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs what the task owns and what is free, as fractions of all prunable weights."""
        total = _packnet(pl_module).summary().total
        fractions = {"packnet/owned": total.fraction(self.task), "packnet/free": total.free_fraction}
        pl_module.log_dict(fractions, sync_dist=True)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prunes or finishes the task."""
        packnet = _packnet(pl_module)
        if self.best:
            self.best.restore_(pl_module)
        # Averaging callbacks have written to every weight meanwhile.
        self._restore(pl_module)
        if self._settled:
            self._settled(pl_module)
        if self.phase == "train" and self.prune_ratio is not None:
            packnet.prune(self.prune_ratio, scope=self.scope)
        else:
            packnet.finish_task()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leaves no trace; the task stays open."""
        # It may have come in the middle of an optimizer's step.
        if self._step_hooks and _packnet(pl_module).open_task is not None:
            self._restore(pl_module)
        self._detach()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leaves no trace."""
        self._detach()

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
        selected = getattr(pl_module, "selected_task", self.task)
        if selected != self.task:
            raise ValueError(f"{given}: the module's selected task is {selected!r}; select_task({self.task!r}) first")

    def _private_modules(self, pl_module: pl.LightningModule) -> list[str]:
        ask = getattr(pl_module, "private_modules", None)
        names = self._private if self._private is not None else ask(self.task) if callable(ask) else []
        for name in names:
            try:
                pl_module.get_submodule(name)
            except AttributeError as error:
                raise ValueError(
                    f"private={name!r}: {type(pl_module).__name__} has no such module ({error})"
                ) from error
        return list(names)

    def _others_tensors(self, pl_module: pl.LightningModule) -> dict[str, Tensor]:
        """Returns all tensors that are private to finished tasks."""
        packnet = _packnet(pl_module)
        names = [name for task in packnet.tasks for name in packnet.private.get(task, [])]
        found: dict[str, Tensor] = {}
        for name in names:
            module = pl_module.get_submodule(name)
            found |= {f"{name}.{key}": tensor for key, tensor in module.state_dict(keep_vars=True).items()}
        return found

    def _stop_gradients(self, pl_module: pl.LightningModule) -> None:
        packnet = _packnet(pl_module)
        if not packnet.tasks:
            return
        shared = take_inventory(packnet.module, packnet.prunable).frozen
        for tensor in [*shared.values(), *self._others_tensors(pl_module).values()]:
            if isinstance(tensor, nn.Parameter):
                self._requires_grad.setdefault(tensor, tensor.requires_grad)
                tensor.requires_grad_(False)

    def _restore(self, pl_module: pl.LightningModule) -> None:
        _packnet(pl_module).restore_()
        if self._others:
            self._others.bind({}, self._others_tensors(pl_module))
            self._others.restore_()

    def _detach(self) -> None:
        for hook in self._step_hooks:
            hook.remove()
        for parameter, requires_grad in self._requires_grad.items():
            parameter.requires_grad_(requires_grad)
        self._step_hooks, self._requires_grad, self._others = [], {}, None


def _packnet(pl_module: pl.LightningModule) -> PackNet:
    packnet = getattr(pl_module, "packnet", None)
    if not isinstance(packnet, PackNet):
        raise ValueError(
            f"{type(pl_module).__name__} has no PackNet (its attribute packnet is {packnet!r}); add to its "
            "constructor: self.packnet = PackNet(self.backbone), with the part that all tasks share"
        )
    return packnet
