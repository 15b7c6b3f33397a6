"""One phase of one task: checks a fit of it, opens the task, and ends it."""

from collections.abc import Callable, Iterable, Sequence

import pytorch_lightning as pl
from torch import Tensor

from packnet_pl.choices import PHASES, Phase, check_choice, check_ratio, check_task_name
from packnet_pl.core import GradientScore, PackNet
from packnet_pl.core.gradual import first_share
from packnet_pl.core.learned_mask import LearnedMask, mask_of
from packnet_pl.core.pruning import PruneRule, check_rule
from packnet_pl.training.model_parallel import check_all_sharded
from packnet_pl.training.outside_slots import check_free_names
from packnet_pl.training.private_modules import check_private_names, turn_off_frozen_gradients
from packnet_pl.training.protocols import find_packnet, packnet_of, private_modules_of, selected_task_of
from packnet_pl.training.strategy_hooks import loads_late
from packnet_pl.training.trainer_checks import (
    builds_later,
    check_module,
    check_precision,
    expect_unused_parameters,
    warn_of_lost_tasks,
)

__all__ = ["TaskPhase"]


class TaskPhase:
    """The arguments of a :class:`PackNetCallback`: one phase of one task.

    Args:
        task: Name of the task.
        phase: "train" or "retrain".
        prune_ratio: Share of the task's weights to release, in [0, 1); None finishes the task. In phase "retrain" only
            where the rule is gradual.
        rule: How they are chosen.
        private: Names of the task's own modules; None asks the module.
        free: Names of what outside the shared part may change.
        mask: Which weights of earlier tasks it uses: as for :func:`packnet_pl.core.learned_mask.mask_of`.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(
        self,
        task: str,
        phase: Phase,
        prune_ratio: float | None,
        rule: PruneRule,
        private: str | Sequence[str] | None,
        free: str | Sequence[str],
        mask: LearnedMask | str | None = None,
    ) -> None:
        self.task = check_task_name(task)
        self.phase: Phase = check_choice("phase", phase, PHASES)
        is_gradual = rule.schedule == "gradual"
        if phase == "retrain" and prune_ratio is not None and not is_gradual:
            raise ValueError(f"prune_ratio={prune_ratio!r} was given for phase 'retrain'; only phase 'train' prunes")
        if phase == "retrain" and prune_ratio is None and is_gradual:
            raise ValueError(
                "prune schedule 'gradual' was given for phase 'retrain' without a prune_ratio: give that of phase "
                "'train'"
            )
        self.prune_ratio = None if prune_ratio is None else check_ratio(prune_ratio)
        self.rule, self.mask = rule, mask_of(mask)
        self.private = [private] if isinstance(private, str) else private
        self.free = [free] if isinstance(free, str) else list(free)

    @property
    def prunes_gradually(self) -> bool:
        """Whether the task is pruned on in this phase."""
        return self.phase == "retrain" and self.prune_ratio is not None

    @property
    def gradient_score(self) -> GradientScore | None:
        """The score that adds up the gradients of this phase; None without one."""
        return None if self.prune_ratio is None else self.rule.gradient_score

    @property
    def _learned_ratio(self) -> float | None:
        """The share to release, if what is released is learned together with the weights in this phase."""
        return self.prune_ratio if self.phase == "train" and self.rule.schedule == "learned" else None

    def private_modules(self, module: pl.LightningModule) -> list[str]:
        """Returns the names of the task's own modules.

        Raises:
            ValueError: If one is not there, is part of the shared module, or belongs to a finished task.
        """
        names = self.private if self.private is not None else private_modules_of(module, self.task)
        return check_private_names(packnet_of(module), module, names)

    def check_names(self, module: pl.LightningModule) -> None:
        """Checks that private and free modules exist, and may be so.

        Raises:
            ValueError: Otherwise.
        """
        check_free_names(packnet_of(module), module, self.free, self.private_modules(module))

    def set_up(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Checks what is known before the strategy wraps the module, and turns off gradients of what is frozen.

        What is open and finished is checked later: a checkpoint may still bring its own state.

        Raises:
            ValueError: If the module or the Trainer does not suit the PackNet, or as :meth:`check_names`.
        """
        if builds_later(module):
            expect_unused_parameters(trainer, module, used=None)
            return
        packnet = packnet_of(module)
        if loads_late(trainer):
            check_all_sharded(module)
        check_module(packnet, module)
        check_precision(trainer.precision, packnet)
        self.check_names(module)
        turn_off_frozen_gradients(packnet, module)
        sure = [packnet.module, *map(module.get_submodule, self.private_modules(module))]
        expect_unused_parameters(trainer, module, {id(p) for part in sure for p in part.parameters()})

    def tear_down(self, module: pl.LightningModule) -> None:
        """Restores the ``requires_grad`` that :meth:`set_up` turned off."""
        packnet = find_packnet(module)
        if packnet is not None:
            packnet.requires_grad.restore()

    def set_up_again(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Repeats :meth:`set_up` when a checkpoint has brought its tasks.

        Raises:
            ValueError: As :meth:`check`, or if the Trainer would convert the weights.
        """
        packnet = packnet_of(module)
        check_precision(trainer.precision, packnet)
        self.check(module)
        turn_off_frozen_gradients(packnet, module)

    def check(self, module: pl.LightningModule) -> None:
        """Checks that this phase of the task comes next.

        Raises:
            ValueError: If the task is finished, another one is open or selected, it is in another phase, or cannot be
                pruned by the rule.
        """
        packnet, given = packnet_of(module), f"PackNetCallback(task={self.task!r}, phase={self.phase!r})"
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
            inventory = packnet.inventory()  # first: layers may have been added, and the state then knows them
            check_rule(self.rule, packnet.state, inventory, self.prune_ratio if self.phase == "train" else 0.0)
        self._check_mask(module, packnet, given)
        selected = selected_task_of(module, self.task)
        if selected != self.task:
            raise ValueError(f"{given}: the module's selected task is {selected!r}; select_task({self.task!r}) first")

    def _check_mask(self, module: pl.LightningModule, packnet: PackNet, given: str) -> None:
        if self.mask is None and self.phase == "train" and packnet.mask_scores:
            raise ValueError(f"{given}: the task was begun with mask='learned'; give the same, or packnet.abort_task()")
        learned = "mask='learned'" if self.mask is not None else None
        learned = learned or ("prune schedule 'learned'" if self._learned_ratio is not None else None)
        if learned is not None and not module.automatic_optimization:
            raise ValueError(
                f"{given}: {learned} needs automatic optimization: with manual optimization nothing says which weights "
                "a forward pass is to see; leave it out"
            )

    def open_(self, module: pl.LightningModule) -> None:
        """Begins or resumes the task.

        Raises:
            CapacityError: If no weight is free.
            RuntimeError: If a finished task's weights were changed from outside.
            ValueError: As :meth:`check` and :meth:`check_names`, or if the task was begun with other private modules.
        """
        self.check(module)
        self.check_names(module)
        packnet, private = packnet_of(module), self.private_modules(module)
        if packnet.open_task is None:
            warn_of_lost_tasks(packnet)
            packnet.begin_task(self.task, private=private, root=module)
            self._learn(packnet)
            return
        begun = packnet.private.get(self.task, [])
        if self.private is not None and private != begun:
            raise ValueError(
                f"private={self.private!r} was given, but task {self.task!r} was begun with private={begun!r}; give "
                "the same in both phases"
            )
        packnet.resume_task(module)
        self._learn(packnet)

    def _learn(self, packnet: PackNet) -> None:
        if self.mask is not None and self.phase == "train":
            packnet.learn_mask(self.mask)
        if self._learned_ratio is not None:
            packnet.learn_pruning(self._learned_ratio, rule=self.rule)

    def end_(self, module: pl.LightningModule, agree: Callable[[Iterable[Tensor]], None] | None) -> None:
        """Prunes the task, by its first share if that is done gradually, or finishes it where nothing is left to prune.

        Args:
            module: With its final weights.
            agree: As for :meth:`PackNet.prune`.
        """
        packnet = packnet_of(module)
        if self.prune_ratio is None or self.prunes_gradually:
            packnet.finish_task(module)
        else:
            is_gradual = self.rule.schedule == "gradual"
            ratio = first_share(self.prune_ratio) if is_gradual else self.prune_ratio
            packnet.prune(ratio, rule=self.rule, agree=agree)
