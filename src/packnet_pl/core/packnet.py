"""The life of a task in a shared network: begin, prune, finish or abort, and view.

Source of the method: Mallya & Lazebnik, "PackNet: Adding Multiple Tasks to a Single Network by Iterative Pruning",
CVPR 2018, section 3.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from os import PathLike
from typing import Any

from torch import Tensor, nn

from packnet_pl.choices import Granularity, Keeping, Phase, Prunable, Scope, check_ratio
from packnet_pl.core.accumulators import Accumulators
from packnet_pl.core.directions import clear_
from packnet_pl.core.finishing import finished, restore_copies_
from packnet_pl.core.freezing import Freezer
from packnet_pl.core.gradients import RequiresGrad
from packnet_pl.core.growing import check_can_grow, grown
from packnet_pl.core.inventory import Inventory
from packnet_pl.core.learned_mask import LearnedMask
from packnet_pl.core.open_mask import OpenMask
from packnet_pl.core.prunable import PrunableRule
from packnet_pl.core.pruning import PruneRule, rule_of
from packnet_pl.core.releases import releases_of
from packnet_pl.core.rows import trained_rows
from packnet_pl.core.scores import GradientScore
from packnet_pl.core.sharded_checks import refuse_sharded
from packnet_pl.core.shards import align_gradients_, reshard_, with_shards
from packnet_pl.core.shared_module import SharedModule
from packnet_pl.core.silent_channels import warn_of_silent_channels
from packnet_pl.core.slots import wholes_in
from packnet_pl.core.state import State
from packnet_pl.core.state_dump import dump
from packnet_pl.core.state_format import read_state
from packnet_pl.core.state_shards import in_shards
from packnet_pl.core.summary import Summary, summarize
from packnet_pl.core.unowned import warn_of_large, warn_of_unknown

__all__ = ["PackNet"]


class PackNet:  # noqa: PLR0904
    """Packs several tasks into one module by iterative pruning.

    A plain object beside the module: it adds nothing to the module's tree or state dict. In a loop of your own::

        packnet.begin_task("cubs")
        ...                                   # each step: backward, mask_gradients_(), optimizer.step(), restore_()
        packnet.prune(0.75)
        ...                                   # the same again, to recover
        packnet.finish_task()

    Args:
        module: The shared part of the network, without the tasks' output layers.
        prunable: Which parameters are divided among tasks; all others are frozen after the first one. "weights": each
            floating-point parameter that multiplies activations, as :func:`packnet_pl.core.role_of` tells them from
            norms, biases, scales and tables. "paper": the ``weight`` of convolutions and linear layers only. "all":
            embeddings and position tables too; pruning gives up rows that the task never looked up before others. Or a
            function of a parameter's name, its module and itself that returns a bool. A loaded state brings its rule.
        norm: "shared": norm parameters and running statistics are the first task's, and frozen after it (the paper's).
            "per_task": each task trains its own, which begin as those of the task before.
        bias: The same for biases of other layers.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        prunable: Prunable | PrunableRule = "weights",
        norm: Keeping = "shared",
        bias: Keeping = "shared",
    ) -> None:
        self._shared = SharedModule(module, prunable, norm=norm, bias=bias)
        warn_of_unknown(self.inventory(), self.state.prunable, self.requires_grad)

    @classmethod
    def from_checkpoint(cls, module: nn.Module, path: str | PathLike[str]) -> "PackNet":
        """Returns a PackNet for ``module`` with the state that a Lightning checkpoint holds, and by its rule.

        The weights are the module's own business: load them with Lightning, before or after.

        Raises:
            ValueError: If the checkpoint holds no PackNet state, that of another network, or what is not plain data.
        """
        return cls.from_state(module, read_state(path))

    @classmethod
    def from_state(cls, module: nn.Module, state: Mapping[str, Any]) -> "PackNet":
        """Returns a PackNet for ``module`` with a state that :meth:`state_dict` returned, and by its rule.

        Raises:
            ValueError: As :meth:`load_state_dict`.
        """
        packnet = cls.__new__(cls)  # what the rule does not know was named when the state was made
        packnet._shared = SharedModule.of_state(module, state)
        return packnet

    @property
    def module(self) -> nn.Module:
        """The shared part."""
        return self._shared.module

    @module.setter
    def module(self, module: nn.Module) -> None:
        self._shared.module = module

    @property
    def requires_grad(self) -> RequiresGrad:
        """Turns ``requires_grad`` off during a fit; subnetworks are shown with what it was."""
        return self._shared.requires_grad

    @property
    def tasks(self) -> list[str]:
        """Names of the finished tasks, in order."""
        return list(self.state.tasks)

    @property
    def open_task(self) -> str | None:
        """Name of the task that is being trained, or None."""
        return self.state.open_task

    @property
    def phase(self) -> Phase | None:
        """Of the open task: "train" before it was pruned, "retrain" after; None without an open task."""
        return self.state.phase

    @property
    def private(self) -> dict[str, list[str]]:
        """Task -> names of the modules that only it uses, as given to :meth:`begin_task`."""
        return {task: list(names) for task, names in self.state.private.items()}

    @property
    def owners(self) -> dict[str, Tensor]:
        """Parameter name -> uint8 owner map (a copy, sharded as the parameter is): 0 is free, k the k-th task."""
        of_tasks = wholes_in(self.inventory().of_tasks)
        return {name: owner.clone() for name, owner in in_shards(self.state, of_tasks).owners.items()}

    @property
    def state(self) -> State:
        """The whole state beside the weights, which never changes: each step of a task's life makes a new one."""
        return self._shared.state

    @property
    def freezer(self) -> Freezer:
        """Freezes what the open task may not change; between tasks, buffers that forward passes change unnoticed."""
        return self._shared.freezer

    def begin_task(self, task: str, *, private: Sequence[str] = (), root: nn.Module | None = None) -> None:
        """Opens a task: it claims every free weight.

        Args:
            task: A new name.
            private: Names of modules outside the shared part that belong to this task alone. They are only remembered
                here; whoever trains freezes them once the task is finished (``PackNetCallback`` does).
            root: The module that has the tasks' private modules: those of finished tasks are verified too.

        Raises:
            CapacityError: If no weight is free, or 255 tasks exist.
            RuntimeError: If a task is open, or a finished task's weights were changed from outside.
            ValueError: If the name is not allowed or taken, or a parameter cannot be handled.
        """
        self._shared.refuse_inside("begin_task")
        inventory = self.inventory()
        inventory.check_handled(task)
        begun = self.state.begin(task, private, type(self.module).__name__, inventory.processes)
        self.verify(root)
        restore_copies_(self.state, inventory)
        if len(self.state.tasks) == 1:
            warn_of_large(inventory, task, self.requires_grad)
            warn_of_silent_channels(inventory, task)
        self._shared.open_(begun)

    def learn_mask(self, rule: LearnedMask | None = None) -> None:
        """Lets the open task learn which weights of earlier tasks it uses, from its next step on, until it is pruned.

        Forward and backward passes belong into :meth:`masked` then. Nothing is learned by the first task.

        Args:
            rule: How; None is ``LearnedMask()``.

        Raises:
            RuntimeError: If no task is open, or it was pruned already.
            ValueError: If the network has grown.
        """
        self._shared.open_number("learn_mask")
        self.state.check_unpruned("learn the mask of", ", and it is fixed")
        self.mask.learn(rule or LearnedMask(), self.inventory().owned, self.state)

    @property
    def mask(self) -> OpenMask:
        """What the open task does not compute with, although the module has it."""
        return self._shared.mask

    @property
    def mask_scores(self) -> dict[str, Tensor]:
        """Parameter name -> scores of its weights, not copied, while the open task learns its mask; else empty."""
        return self.mask.values

    def learn_pruning(self, ratio: float, *, rule: PruneRule | None = None) -> None:
        """Lets the open task learn its weights together with what it will release, until it is pruned.

        In :meth:`masked`, which forward and backward passes belong into then, the weights that :meth:`prune` would
        release now are zero; arguments are as there. They get gradients like all others, so they may count again.

        Raises:
            RuntimeError: If no task is open, or it was pruned already.
            ValueError: If an argument is not allowed.
        """
        self._shared.open_number("learn_pruning")
        self.state.check_unpruned("learn the pruning of")
        self.mask.pruning = check_ratio(ratio), rule_of(rule, None, None)

    @property
    def unused(self) -> dict[str, dict[str, Tensor]]:
        """Task with a learned mask -> parameter name -> which weights (bool) of earlier tasks it does not use.

        Sharded as the parameter is: every process must ask for it alike then.
        """
        weights = wholes_in(self.inventory().owned)
        found = {task: self.state.unused(task) for task in self.state.masks}
        now = self.mask.unused_in_all(self.state)
        found |= {self.state.names[-1]: now} if now else {}
        return {task: {n: with_shards(part, weights[n]) for n, part in mask.items()} for task, mask in found.items()}

    @contextmanager
    def masked(self) -> Iterator[None]:
        """Shows the module as the open task computes with it, in place: what it does not use is zero.

        For forward passes of a task with a learned mask, and, when it is trained, the backward pass. Changes nothing
        where a task uses everything, or none is open. Inside itself it does nothing.

        Raises:
            RuntimeError: Inside :meth:`subnetwork`.
        """
        if self.mask.is_shown or not self.mask.is_needed(self.state):
            yield
            return
        self._shared.refuse_inside("masked")
        try:
            with self.mask.shown(self.inventory().owned, self.state):
                yield
        finally:
            reshard_(self.module)  # what was gathered for a forward pass is what was shown

    def resume_task(self, root: nn.Module | None = None) -> None:
        """Resumes the open task after weights were loaded or converted: all is frozen at its present values.

        Raises:
            RuntimeError: If no task is open, or a finished task's weights were changed from outside.
        """
        self._shared.open_number("resume_task")
        self._shared.resume_(root)

    def accumulate_(self, score: GradientScore, of: Iterable[Tensor] | None = None) -> None:
        """Adds the gradients of a step to what a score is made of. Call it right before ``mask_gradients_()``.

        Gradients must be those of the whole step: unscaled, and averaged over processes. Nothing is added where one is
        not finite, as a gradient scaler leaves out the step, or once the task was pruned and is not to be pruned on.

        Args:
            score: The one to prune by.
            of: The parameters of the optimizer that is to step; None is all.

        Raises:
            RuntimeError: If no task is open, or inside :meth:`subnetwork`.
            ValueError: If the score returns something else than a float per entry, or another was added up before.
        """
        self._shared.open_number("accumulate_")
        if self.phase == "retrain" and self.state.accumulators is None:
            return  # the task was pruned for good
        _ = self.freezer  # finds the weights, where a state was loaded
        self._take_rows_()
        before = self.state.accumulators or Accumulators(score.name)
        self._shared.state = self.state.accumulate(before.after_step(score, self._shared.frozen.owned, of))

    def mask_gradients_(self) -> None:
        """Zeroes the gradients of all that the open task may not change. Call it right before ``optimizer.step()``.

        Raises:
            RuntimeError: If no task is open, or inside :meth:`subnetwork`.
        """
        number, freezer, frozen = self._shared.open_number("mask_gradients_"), self.freezer, self._shared.frozen
        self._take_rows_()
        if self.mask.scores is not None:
            self.mask.scores.take_gradients(wholes_in(frozen.owned), self.state.owners, number)
        freezer.mask_gradients_()
        if frozen.tables and self.phase == "train":
            self._shared.state = self.state.train_rows(trained_rows(frozen.tables))

    def _take_rows_(self) -> None:
        """Gives this process its rows again of what forward passes gathered, and of gradients."""
        if self._shared.frozen.is_sharded:
            reshard_(self.module)
            align_gradients_(wholes_in(self._shared.frozen.owned).values())

    def restore_(self, of: Iterable[Tensor] | None = None) -> None:
        """Restores, bit for bit, all that the open task may not change. Call it right after ``optimizer.step()``.

        Earlier tasks' weights, and from the second task on what is shared of biases, norm parameters and buffers, get
        the values they had when the task was begun; in phase "retrain" the pruned weights are exactly zero. A buffer
        that a layer changes in its forward pass although it is frozen is named in a warning, once.

        A large weight in the CPU's memory is left alone after a step that is proved to have moved nothing frozen. What
        code of yours writes to a few frozen entries past autograd (``.data``) may then stay until everything is
        restored: before the next epoch, checkpoint, pruning, end of the task, ``verify()`` or ``subnetwork()``.

        Args:
            of: The parameters that the optimizer has. Others are then only written to if something has changed them, so
                that with several optimizers a graph that is still to be used stays valid. None: everything, but for
                large weights that the step is proved not to have moved.

        Raises:
            RuntimeError: If no task is open, or inside :meth:`subnetwork`.
        """
        self._shared.open_number("restore_")
        freezer = self.freezer
        if freezer.is_sharded:
            reshard_(self.module)
        freezer.restore_(of)
        if self.mask.scores is not None:
            self.mask.scores.step_()

    def prune(
        self,
        ratio: float,
        *,
        rule: PruneRule | None = None,
        scope: Scope | None = None,
        granularity: Granularity | None = None,
        agree: Callable[[Iterable[Tensor]], None] | None = None,
    ) -> None:
        """Zeroes and frees the open task's smallest weights; the task goes on in phase "retrain".

        Args:
            ratio: Share of the task's weights to release, in [0, 1): exactly ``round(ratio * owned)`` are. Where the
                task was pruned before, it is the share in all: of what the task owned before the first time.
            rule: By which score, counted and ranked where, in which units, and whether the task may be pruned on in
                phase "retrain" (``PruneRule(schedule="gradual")``); None is the paper's, the smallest magnitudes of
                each layer, once.
            scope: In short for ``PruneRule(scope=...)``: "layer" or "global".
            granularity: In short for ``PruneRule(granularity=...)``: "weight" or "filter".
            agree: Called with each layer's choice (bool, to be changed in place) before anything is done. With several
                processes: :func:`packnet_pl.distributed.broadcast_`.

        Raises:
            RuntimeError: If no task is open, or it was pruned already, and the rule does not go on.
            ValueError: If an argument is not allowed, a weight or score is NaN or infinite, a score of gradients has
                seen none, more was released before, a filter is the task's in part, or weight norm or spectral norm
                would have to divide by the length of zeros.
        """
        self._shared.open_number("prune")
        ratio, rule = check_ratio(ratio), rule_of(rule, scope, granularity)
        if rule.schedule != "gradual":
            self.state.check_unpruned("prune", "; finish_task() is next")
        slots, state = self._shared.restored().owned, self.mask.fixed(self.state)
        released = releases_of(state, slots, ratio, rule)
        if agree is not None:
            agree(released.values())
        self._shared.open_(state.prune(released, goes_on=rule.schedule == "gradual"), is_restored=True)

    def finish_task(self, root: nn.Module | None = None) -> None:
        """Freezes the open task for good: what it owns never changes again.

        Args:
            root: The module that has the task's private modules: they get fingerprints too. None leaves them out.

        Raises:
            RuntimeError: If no task is open.
            ValueError: If a tensor that the task uses holds NaN or infinity.
        """
        self._shared.open_number("finish_task")
        inventory = self._shared.restored()
        self._shared.close_(finished(self.mask.fixed(self.state), inventory, root))

    def abort_task(self) -> None:
        """Zeroes and frees the open task's weights; finished tasks are untouched.

        The first task's biases and norms keep what training made of them: they are the next task's to train. Of what is
        kept per task, the module gets that of the last finished task. Where a layer divides by a weight's length
        (weight norm, spectral norm), an entry is one instead of zero.

        Raises:
            RuntimeError: If no task is open.
        """
        number, inventory = self._shared.open_number("abort_task"), self._shared.restored()
        clear_(inventory.owned, self.state.owners, number)
        restore_copies_(self.state, inventory)
        self._shared.close_(self.state.abort())

    def withdraw_task(self) -> None:
        """Undoes :meth:`begin_task`: the weights keep their values. For a task of which nothing was trained yet.

        Raises:
            RuntimeError: If no task is open, or it was pruned already.
        """
        self._shared.open_number("withdraw_task")
        self.state.check_unpruned("withdraw", "; abort_task() gives it up")
        self._shared.close_(self.state.abort())

    def grow(self, wider: nn.Module, *, example: Tensor, root: nn.Module | None = None) -> nn.Module:
        """Makes room for more tasks: a wider network takes the module's place, and finished tasks stay what they are.

        Each tensor moves to the leading indices of the wider one; the rest is free. Finished tasks are computed at the
        width at which they were finished, equal to the bit, which is tried out. What is shared of norms and biases
        stays frozen, for new channels as ``wider`` has it. So: ``self.backbone = packnet.grow(VGG(channels=80), ...)``.

        Args:
            wider: The same network with more channels, new: it is written to, returned, and the ``module`` from now on.
            example: A batch that both take.
            root: As in :meth:`begin_task`.

        Raises:
            RuntimeError: If no task is finished, one is open, or a finished task's weights were changed from outside.
            ValueError: If a task has a learned mask, or ``wider`` is another network, or its channels are not leading
                there, or a finished task computes otherwise in it; everything is as it was then.
        """
        self._shared.refuse_inside("grow")
        check_can_grow(self.state)
        refuse_sharded("a wider network", self.inventory().processes)
        self.verify(root)
        state = grown(self._shared, wider, example)
        self.module = wider
        self._shared.close_(state)
        return wider

    def subnetwork(self, task: str) -> AbstractContextManager[None]:
        """Shows the module, bit for bit, as it was when ``task`` was finished; restores all at the end.

        Inside, weights of later tasks are zero, in place; what is kept per task is this task's; and layers with running
        statistics are in eval mode. Where the module has grown since, its tensors are narrower inside: copies, to which
        nothing should be written.

        Code that has weights of its own does not see what is shown: packages compiled ahead of time, exported files.

        Raises:
            RuntimeError: If it is used inside itself, or the module was compiled with weights as constants.
            ValueError: If ``task`` is not finished.
        """
        return self._shared.subnetwork(task)

    def verify(self, root: nn.Module | None = None) -> None:
        """Checks that every finished task's weights are, bit for bit, what they were when it was finished.

        While a task is open, what it may not change is restored first.

        Args:
            root: The module that has the tasks' private modules: they are looked at too. None leaves them out.

        Raises:
            RuntimeError: Otherwise; it names the task and the parameter.
        """
        self._shared.verify(root)

    def summary(self) -> Summary:
        """Returns what each task owns, in all and per layer, and which parameters are owned, frozen and refused."""
        inventory = self.inventory()
        return summarize(inventory, self.state.owners, self.state.names)

    def state_dict(self, root: nn.Module | None = None) -> dict[str, Any]:
        """Verifies as :meth:`verify`, and returns tensors and primitives; weights are in the module's own state dict.

        Raises:
            RuntimeError: If a finished task's weights were changed from outside.
        """
        self.verify(root)
        return {**dump(in_shards(self.state, wholes_in(self.inventory().of_tasks))), **self.mask.dump()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Loads what :meth:`state_dict` returned, in any process, before or after the weights are loaded.

        Raises:
            ValueError: If it belongs to another network, keeps norms or biases otherwise, or contradicts itself.
        """
        self._shared.load_(state)

    def inventory(self) -> Inventory:
        """Finds the tensors of the module by name; refuses (RuntimeError) those that are not what tasks own."""
        return self._shared.inventory()

    def __repr__(self) -> str:
        what = type(self.module).__name__
        try:
            processes = self.inventory().processes
            if processes is not None:  # counting takes all of them, and one may be printing
                return f"PackNet({what}, tasks={self.state.names}, sharded over {processes.size} processes)"
            return f"PackNet({what}, {self.summary().shares(self.open_task, self.phase)})"
        except RuntimeError as error:  # the module changed; whoever looks at it may be finding out
            return f"PackNet({what}, tasks={self.state.names}: {error})"

    def __getstate__(self) -> dict[str, Any]:
        # A copy made inside subnetwork() would never get its other tasks' weights back.
        self._shared.refuse_inside("copying or pickling PackNet")
        return self.__dict__.copy()
