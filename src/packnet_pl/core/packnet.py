"""The life of a task in a shared network: begin, prune, finish or abort, and view.

Source of the method: Mallya & Lazebnik, "PackNet: Adding Multiple Tasks to a Single Network by Iterative Pruning",
CVPR 2018, section 3.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from packnet_pl.choices import (
    KEEPINGS,
    Granularity,
    Keeping,
    Phase,
    Scope,
    check_choice,
    check_ratio,
    check_task_name,
)
from packnet_pl.core.capacity import check_room
from packnet_pl.core.checkpoint_reading import read_checkpoint
from packnet_pl.core.compiled import check_weights_are_read
from packnet_pl.core.fingerprints import task_fingerprints
from packnet_pl.core.gradients import StoppedGradients
from packnet_pl.core.guard import Guard
from packnet_pl.core.inventory import Inventory, Place, PrunableFilter
from packnet_pl.core.module_modes import in_eval_mode, layers_with_statistics
from packnet_pl.core.ownership import FREE, all_free, claim, release, trainable, visible
from packnet_pl.core.pruning import PruneRule, check_finite, choose_releases, count_units, rule_of
from packnet_pl.core.state import State
from packnet_pl.core.subnetwork import shown
from packnet_pl.core.summary import Summary, summarize
from packnet_pl.core.verification import check_private, check_shared, private_fingerprints

__all__ = ["PackNet"]


class PackNet:
    """Packs several tasks into one module by iterative pruning.

    A plain object beside the module: it adds nothing to the module's tree or state dict. In a loop of your own::

        packnet.begin_task("cubs")
        ...                                   # each step: backward, mask_gradients_(), optimizer.step(), restore_()
        packnet.prune(0.75)
        ...                                   # the same again, to recover
        packnet.finish_task()

    Args:
        module: The shared part of the network, without the tasks' output layers.
        prunable: Narrows what may be owned: called with the name and the module of each convolution and linear layer,
            False leaves its weight out (it is then frozen after the first task).
        norm: "shared": norm parameters and running statistics are the first task's, and stand still afterwards (the
            paper's). "per_task": each task trains its own, which begin as those of the task before.
        bias: The same for biases of other layers.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        prunable: PrunableFilter | None = None,
        norm: Keeping = "shared",
        bias: Keeping = "shared",
    ) -> None:
        if not isinstance(module, nn.Module):
            raise ValueError(
                f"PackNet was given a {type(module).__name__}; it takes the nn.Module that all tasks share"
            )
        self.module = module
        self._state = State(norm=check_choice("norm", norm, KEEPINGS), bias=check_choice("bias", bias, KEEPINGS))
        self._guard = Guard(module, prunable, own_norms=norm == "per_task", own_biases=bias == "per_task")
        self._viewed: str | None = None
        self._stopped = StoppedGradients()
        self.inventory()

    @classmethod
    def from_checkpoint(
        cls, module: nn.Module, path: str | PathLike[str], *, prunable: PrunableFilter | None = None
    ) -> "PackNet":
        """Returns a PackNet for ``module`` with the state that a Lightning checkpoint holds.

        The weights are the module's own business: load them with Lightning, before or after.

        Raises:
            ValueError: If the checkpoint holds no PackNet state, that of another network, or what is not plain data.
        """
        checkpoint = read_checkpoint(path)
        if "packnet" not in checkpoint:
            raise ValueError(f"{path} holds no PackNet state; it was not written by a fit with PackNetCallback")
        state = checkpoint["packnet"]
        if not isinstance(state, Mapping):
            raise ValueError(f"{path} holds a PackNet state that is a {type(state).__name__}: it is damaged")
        packnet = cls(module, prunable=prunable, norm=state.get("norm", "shared"), bias=state.get("bias", "shared"))
        packnet.load_state_dict(state)
        return packnet

    @property
    def tasks(self) -> list[str]:
        """Names of the finished tasks, in order."""
        return list(self._state.tasks)

    @property
    def open_task(self) -> str | None:
        """Name of the task that is being trained, or None."""
        return self._state.open_task

    @property
    def phase(self) -> Phase | None:
        """Of the open task: "train" before it was pruned, "retrain" after; None without an open task."""
        return self._state.phase

    @property
    def private(self) -> dict[str, list[str]]:
        """Task -> names of the modules that only it uses, as given to :meth:`begin_task`."""
        return {task: list(names) for task, names in self._state.private.items()}

    def begin_task(self, task: str, *, private: Sequence[str] = (), root: nn.Module | None = None) -> None:
        """Opens a task: it claims every free weight.

        Args:
            task: A new name.
            private: Names of modules outside the shared part that belong to this task alone. They are only remembered
                here; whoever trains keeps them still once the task is finished (``PackNetCallback`` does).
            root: The module that has the tasks' private modules: those of finished tasks are verified too.

        Raises:
            CapacityError: If no weight is free, or 255 tasks exist.
            RuntimeError: If a task is open, or a finished task's weights were changed from outside.
            ValueError: If the name is not allowed or taken, or a parameter cannot be handled.
        """
        self._refuse_while_viewing("begin_task")
        state = self._state
        check_task_name(task)
        if isinstance(private, str):
            raise ValueError(f"private is {private!r}; it takes a list of module names: private=[{private!r}]")
        if state.open_task is not None:
            raise RuntimeError(
                f"cannot begin {task!r}: {state.open_task!r} is open; finish_task() or abort_task() first"
            )
        if task in state.tasks:
            raise ValueError(f"task {task!r} is finished already; finished are {state.tasks}: choose a new name")
        inventory = self.inventory()
        if inventory.refused:
            name, reason = next(iter(inventory.refused.items()))
            raise ValueError(f"cannot begin {task!r}: parameter {name} is refused: {reason}")
        check_room(task, state, type(self.module).__name__)
        self.verify(root)
        number = len(state.tasks) + 1
        self._give_back_copies(inventory)
        owners = {name: claim(owner, number) for name, owner in state.owners.items()}
        self._hold(owners, number)
        self._guard.keep_statistics(bool(state.tasks))
        state.owners, state.open_task, state.phase = owners, task, "train"
        state.private[task] = list(private)

    def hold(self) -> None:
        """Takes the values that must stay while the open task trains, as they are now.

        Needed only where weights were loaded or converted while a task is open: :meth:`begin_task` and :meth:`prune` do
        it by themselves.

        Raises:
            RuntimeError: If no task is open.
        """
        self._hold(self._state.owners, self._open_number("hold"))
        self._keep_statistics()

    def mask_gradients_(self) -> None:
        """Zeroes the gradients of all that the open task may not change. Call it right before ``optimizer.step()``.

        Raises:
            RuntimeError: If no task is open, or inside :meth:`subnetwork`.
        """
        self._holding("mask_gradients_").mask_gradients_()

    def restore_(self, of: Iterable[Tensor] | None = None) -> None:
        """Puts back, bit for bit, all that the open task may not change. Call it right after ``optimizer.step()``.

        Earlier tasks' weights, and from the second task on what is shared of biases, norm parameters and buffers, get
        the values they had when the task was begun; in phase "retrain" the pruned weights are exactly zero. A buffer
        that a layer changes in its forward pass although it is frozen is named in a warning, once.

        Args:
            of: The parameters that the optimizer has. Others are then only written to if something has changed them, so
                that with several optimizers a graph that is still to be used stays valid. None: everything.

        Raises:
            RuntimeError: If no task is open, or inside :meth:`subnetwork`.
        """
        self._holding("restore_").restore_(of)

    def restore_buffers_(self) -> None:
        """Restores the buffers of layers that may have written to them in a forward pass: cheaper than all.

        Raises:
            RuntimeError: If no task is open, or inside :meth:`subnetwork`.
        """
        self._holding("restore_buffers_").restore_buffers_()

    def settle_(self) -> None:
        """Finds all tensors anew, as layers may have been replaced, and restores them: for the end of a fit.

        Raises:
            RuntimeError: If no task is open, or inside :meth:`subnetwork`.
        """
        guard = self._holding("settle_")
        self.inventory()
        guard.settle_()

    def check_rule(self, rule: PruneRule) -> None:
        """Does nothing if the open task, or else the next one, can be pruned by ``rule``.

        Raises:
            ValueError: If it releases filters, and one belongs to that task and to earlier ones.
        """
        state, inventory = self._state, self.inventory()
        number = FREE if state.open_task is None else len(state.names)
        for name, owner in state.owners.items():
            count_units(name, inventory.owned[name].layer, owner == number, rule.granularity)

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
            ratio: Share of the task's weights to release, in [0, 1): exactly ``round(ratio * owned)`` are.
            rule: By which score, counted and ranked where, and in which units; None is the paper's, the smallest
                magnitudes of each layer.
            scope: In short for ``PruneRule(scope=...)``: "layer" or "global".
            granularity: In short for ``PruneRule(granularity=...)``: "weight" or "filter".
            agree: Called with each layer's choice (bool, to be changed in place) before anything is done. With several
                processes: :func:`packnet_pl.distributed.broadcast_`.

        Raises:
            RuntimeError: If no task is open, or it was pruned already.
            ValueError: If an argument is not allowed, a weight is NaN or infinite, or a filter is the task's in part.
        """
        number = self._open_number("prune")
        if self._state.phase != "train":
            raise RuntimeError(f"cannot prune {self._state.open_task!r}: it was pruned already; finish_task() is next")
        ratio, rule = check_ratio(ratio), rule_of(rule, scope, granularity)
        self.settle_()
        places, owners = self.inventory().owned, self._state.owners
        owned = _now(places)
        layers = {name: place.layer for name, place in places.items()}
        mine = {name: trainable(owner, number) for name, owner in owners.items()}
        released = choose_releases(layers, owned, mine, ratio, rule)
        if agree is not None:
            agree(released.values())
        remaining = {name: release(owner, released[name]) for name, owner in owners.items()}
        with torch.no_grad():
            for name, weight in owned.items():
                weight.detach().masked_fill_(released[name], 0)
        self._state.owners, self._state.phase = remaining, "retrain"
        self.hold()

    def finish_task(self, root: nn.Module | None = None) -> None:
        """Freezes the open task for good: what it owns never changes again.

        Args:
            root: The module that has the task's private modules: they get fingerprints too. None leaves them out.

        Raises:
            RuntimeError: If no task is open.
            ValueError: If a tensor that the task uses holds NaN or infinity.
        """
        number = self._open_number("finish_task")
        self.settle_()
        inventory, state = self.inventory(), self._state
        owned, shared, own = _now(inventory.owned), _now(inventory.frozen), _now(inventory.per_task)
        for name, place in {**inventory.owned, **inventory.frozen, **inventory.per_task}.items():
            # Other buffers may hold infinity on purpose, as attention masks do.
            if place.is_parameter or place.key.startswith("running_"):
                check_finite(name, place.now)
        # What is not kept per task is the first task's; later tasks use it as it is.
        new = {} if state.tasks else shared
        marks = task_fingerprints(owned, state.owners, number, new | own)
        task = state.names[-1]
        if root is not None:
            state.private_fingerprints[task] = private_fingerprints(
                root, state.private[task], skip=[*owned.values(), *shared.values(), *own.values()]
            )
        state.fingerprints[task] = marks
        state.copies[task] = {name: tensor.detach().clone() for name, tensor in own.items()}
        state.tasks.append(task)
        self._close()
        self._rest()

    def abort_task(self) -> None:
        """Gives the open task's weights back, at zero; finished tasks are untouched.

        The first task's biases and norms keep what training made of them: they are the next task's to train. Of what is
        kept per task, the module gets that of the last finished task.

        Raises:
            RuntimeError: If no task is open.
        """
        number = self._open_number("abort_task")
        self.settle_()
        inventory, state = self.inventory(), self._state
        given_back = {name: trainable(owner, number) for name, owner in state.owners.items()}
        with torch.no_grad():
            for name, weight in _now(inventory.owned).items():
                weight.detach().masked_fill_(given_back[name], 0)
        self._give_back_copies(inventory)
        self._give_up(given_back)

    def withdraw_task(self) -> None:
        """Takes :meth:`begin_task` back: the weights stay as they are. For a task of which nothing was trained yet.

        Raises:
            RuntimeError: If no task is open, or it was pruned already.
        """
        number = self._open_number("withdraw_task")
        state = self._state
        if state.phase != "train":
            raise RuntimeError(f"cannot withdraw {state.open_task!r}: it was pruned already; abort_task() gives it up")
        self._give_up({name: trainable(owner, number) for name, owner in state.owners.items()})

    @contextmanager
    def subnetwork(self, task: str) -> Iterator[None]:
        """Shows the module, bit for bit, as it was when ``task`` was finished; at the end all is given back.

        Inside, weights of later tasks are zero, in place; what is kept per task is this task's; and layers with running
        statistics are in eval mode.

        Code that has weights of its own does not see what is shown: packages compiled ahead of time, exported files.

        Raises:
            RuntimeError: If it is used inside itself, or the module was compiled with weights as constants.
            ValueError: If ``task`` is not finished.
        """
        self._refuse_while_viewing("subnetwork")
        state = self._state
        number = self._finished_number(task)
        check_weights_are_read(self.module)
        self.inventory()
        self.settle_finished_()
        hidden = {name: ~visible(owner, number) for name, owner in state.owners.items()}
        # torch chooses kernels by requires_grad, also without a graph, and other kernels round otherwise.
        with (
            self._stopped.given_back(),
            shown(lambda: self.inventory().held, hidden, state.copies[task]),
            in_eval_mode(layers_with_statistics(self.module)),
        ):
            self._viewed = task
            try:
                yield
            finally:
                self._viewed = None

    def finished(self, task: str) -> tuple[int, Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Returns the owner number of a finished task, all owners, and the values that it alone has.

        Raises:
            RuntimeError: Inside :meth:`subnetwork`.
            ValueError: If ``task`` is not finished.
        """
        self._refuse_while_viewing("showing a task")
        state, number = self._state, self._finished_number(task)
        return number, state.owners, state.copies[task]

    def gradients_given_back(self) -> AbstractContextManager[None]:
        """Returns a context in which :meth:`stop_gradients` has stopped nothing."""
        return self._stopped.given_back()

    def verify(self, root: nn.Module | None = None, *, settle: bool = True) -> None:
        """Does nothing if every finished task's weights are, bit for bit, what they were when it was finished.

        Args:
            root: The module that has the tasks' private modules: they are looked at too. None leaves them out.
            settle: Whether, while a task is open, what it may not change is restored first, and not only buffers.

        Raises:
            RuntimeError: Otherwise; it names the task and the parameter.
        """
        self._refuse_while_viewing("verify")
        if self._guard.holding:
            # Buffers in any case: a forward pass between two fits may have moved them.
            (self.settle_ if settle else self.restore_buffers_)()
        self._guard.put_back_buffers_()
        inventory = self.inventory()
        check_shared(self._state, _now(inventory.owned), _now(inventory.frozen))
        if root is not None:
            check_private(self._state, root)
        if not self._guard.holding:
            self._rest()

    def summary(self) -> Summary:
        """Returns what each task owns, in all and per layer, and which parameters are owned, frozen and refused."""
        return summarize(self.inventory(), self._state.owners, self._state.names)

    def fixed_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters that no further task changes at all, so that they need no gradient."""
        places = self.inventory().frozen.values() if self._state.tasks else ()
        return [place.now for place in places if isinstance(place.now, nn.Parameter)]

    def stop_gradients(self, others: Iterable[nn.Parameter] = ()) -> None:
        """Sets ``requires_grad`` to False for the fixed parameters, until :meth:`give_back_gradients`.

        Args:
            others: Parameters outside the shared module to treat alike.
        """
        self._stopped.stop([*self.fixed_parameters(), *others])

    def give_back_gradients(self) -> None:
        """Undoes :meth:`stop_gradients`."""
        self._stopped.give_back()

    @property
    def owners(self) -> dict[str, torch.Tensor]:
        """Parameter name -> uint8 owner map (a copy): 0 is free, k the k-th task."""
        self.inventory()
        return {name: owner.clone() for name, owner in self._state.owners.items()}

    def state_dict(self, root: nn.Module | None = None) -> dict[str, Any]:
        """Returns tensors and primitives only; the weights are in the module's own state dict.

        Args:
            root: As in :meth:`verify`.

        Raises:
            RuntimeError: If a finished task's weights were changed from outside.
        """
        self.verify(root)
        return self._state.dump()

    def digest(self) -> str:
        """Returns a hash of all that is known: two processes that have the same one have the same tasks and owners."""
        return self._state.digest()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state_dict` returned, in any process, before or after the weights are loaded.

        Raises:
            ValueError: If it belongs to another network, keeps norms or biases otherwise, or contradicts itself.
        """
        self._refuse_while_viewing("load_state_dict")
        for what in ("norm", "bias") if isinstance(state, Mapping) else ():
            given, here = state.get(what), getattr(self._state, what)
            if given in ("shared", "per_task") and given != here:
                raise ValueError(
                    f"the state was made with {what}={given!r}, and this PackNet with {what}={here!r}: make it with "
                    f"{what}={given!r}, or use PackNet.from_checkpoint(), which reads it"
                )
        inventory = self.inventory()
        owned = {name: place.now.shape for name, place in inventory.owned.items()}
        parsed = State.parse(state, owned, {name: place.now.shape for name, place in inventory.per_task.items()})
        self._close()
        self._state = parsed
        self._keep_statistics()

    def __repr__(self) -> str:
        state, what = self._state, type(self.module).__name__
        try:
            total = self.summary().total
        except RuntimeError as error:  # the module changed; whoever looks at it may be finding out
            return f"PackNet({what}, tasks={state.names}: {error})"
        names = {
            task: repr(task) if task != state.open_task else f"{task!r} (open, {state.phase})" for task in state.names
        }
        shares = [f"{names[task]} {total.fraction(task):.2%}" for task in state.names]
        return f"PackNet({what}, {total.weights:,} weights: {', '.join([*shares, f'free {total.free_fraction:.2%}'])})"

    def __getstate__(self) -> dict[str, Any]:
        # A copy made inside subnetwork() would never get its other tasks' weights back.
        self._refuse_while_viewing("copying or pickling PackNet")
        return self.__dict__.copy()

    def inventory(self) -> Inventory:
        """Finds the tensors by name and brings the owner maps to their devices."""
        state, inventory = self._state, self._guard.inventory()
        if not state.names:
            # Nobody owns anything yet, so layers may still have been added or taken shape.
            state.owners = {name: all_free(place.now) for name, place in inventory.owned.items()}
        owners = state.owners
        if inventory.owned.keys() != owners.keys():
            changed = sorted(inventory.owned.keys() ^ owners.keys())
            raise RuntimeError(f"the module's prunable parameters changed since PackNet was made: {changed[:3]}")
        for name, weight in _now(inventory.owned).items():
            if owners[name].shape != weight.shape:
                raise RuntimeError(
                    f"{name} has shape {tuple(weight.shape)}, its owners {tuple(owners[name].shape)}: it was replaced"
                )
            if owners[name].device != weight.device:
                owners[name] = owners[name].to(weight.device)
        return inventory

    @torch.no_grad()
    def _give_back_copies(self, inventory: Inventory) -> None:
        """Gives the module what the last finished task has of its own."""
        if self._state.tasks:
            for name, value in self._state.copies[self._state.tasks[-1]].items():
                inventory.per_task[name].now.detach().copy_(value)

    def _hold(self, owners: Mapping[str, Tensor], number: int) -> None:
        mine = {name: trainable(owner, number) for name, owner in owners.items()}
        self._guard.take(mine, first=not self._state.tasks)

    def _holding(self, action: str) -> Guard:
        number = self._open_number(action)
        if not self._guard.holding:
            self._hold(self._state.owners, number)
        return self._guard

    def _open_number(self, action: str) -> int:
        self._refuse_while_viewing(action)
        if self._state.open_task is None:
            raise RuntimeError(
                f"{action}: no task is open; finished are {self._state.tasks}; call begin_task(name) first"
            )
        return len(self._state.tasks) + 1

    def settle_finished_(self) -> None:
        """Restores what finished tasks use, as far as that is known."""
        if self._state.open_task is not None:
            self.settle_()
        self._guard.put_back_buffers_()

    def _finished_number(self, task: str) -> int:
        state = self._state
        if task not in state.tasks:
            why = "is still open: it is what the module computes now" if task == state.open_task else "is unknown"
            raise ValueError(f"task {task!r} {why}; subnetwork() shows finished tasks: {state.tasks}")
        return state.tasks.index(task) + 1

    def _refuse_while_viewing(self, action: str) -> None:
        if self._viewed is not None:
            raise RuntimeError(f"{action} inside subnetwork({self._viewed!r}): leave the with block first")

    def _keep_statistics(self) -> None:
        self._guard.keep_statistics(bool(self._state.tasks) and self._state.open_task is not None)

    def _give_up(self, given_back: Mapping[str, Tensor]) -> None:
        state = self._state
        state.owners = {name: release(owner, given_back[name]) for name, owner in state.owners.items()}
        state.private.pop(state.names[-1], None)
        self._close()
        self._rest()

    def _rest(self) -> None:
        if self._state.tasks:  # before that, nobody computes with what forward passes move
            self._guard.rest()

    def _close(self) -> None:
        self._state.open_task = self._state.phase = None
        self._guard.drop()


def _now(places: Mapping[str, Place]) -> dict[str, Tensor]:
    return {name: place.now for name, place in places.items()}
