"""The life of a task in a shared network: begin, prune, finish or abort, and view.

Source of the method: Mallya & Lazebnik, "PackNet: Adding Multiple Tasks to a Single Network by Iterative Pruning",
CVPR 2018, section 3.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from packnet_pl.core.digest import task_fingerprints
from packnet_pl.core.freezing import Hold, in_eval_mode, keep_in_eval_mode, norms_with_statistics, zeroed
from packnet_pl.core.ownership import FREE, MAX_TASKS, all_free, claim, release, trainable, visible
from packnet_pl.core.prunable import Inventory, PrunableFilter, take_inventory
from packnet_pl.core.pruning import Scope, check_finite, check_ratio, check_scope, choose_releases
from packnet_pl.core.state import Phase, State, check_name
from packnet_pl.core.summary import Summary, summarize

__all__ = ["CapacityError", "PackNet"]


class CapacityError(RuntimeError):
    """There is no free weight, or no free task number, for another task."""


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
    """

    def __init__(self, module: nn.Module, *, prunable: PrunableFilter | None = None) -> None:
        if not isinstance(module, nn.Module):
            raise ValueError(
                f"PackNet was given a {type(module).__name__}; it takes the nn.Module that all tasks share"
            )
        self.module = module
        self.prunable = prunable
        owned = take_inventory(module, prunable).owned
        self._state = State(owners={name: all_free(weight) for name, weight in owned.items()})
        self._hold: Hold | None = None
        self._held: Inventory | None = None
        self._norm_handles: list[RemovableHandle] = []
        self._viewed: str | None = None

    @classmethod
    def from_checkpoint(
        cls, module: nn.Module, path: str | PathLike[str], *, prunable: PrunableFilter | None = None
    ) -> "PackNet":
        """Returns a PackNet for ``module`` with the state that a Lightning checkpoint holds.

        The weights are the module's own business: load them with Lightning, before or after.

        Raises:
            ValueError: If the checkpoint holds no PackNet state, or that of another network.
        """
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if "packnet" not in checkpoint:
            raise ValueError(f"{path} holds no PackNet state; it was not written by a fit with PackNetCallback")
        packnet = cls(module, prunable=prunable)
        packnet.load_state_dict(checkpoint["packnet"])
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

    def begin_task(self, task: str, *, private: Sequence[str] = ()) -> None:
        """Opens a task: it claims every free weight.

        Args:
            task: A new name.
            private: Names of modules outside the shared part that belong to this task alone. They are only remembered
                here; whoever trains keeps them still once the task is finished (``PackNetCallback`` does).

        Raises:
            CapacityError: If no weight is free, or 255 tasks exist.
            RuntimeError: If a task is open, or a finished task's weights were changed from outside.
            ValueError: If the name is not allowed or taken, or a parameter cannot be handled.
        """
        self._refuse_while_viewing("begin_task")
        state = self._state
        check_name(task)
        if isinstance(private, str):
            raise ValueError(f"private is {private!r}; it takes a list of module names: private=[{private!r}]")
        if state.open_task is not None:
            raise RuntimeError(
                f"cannot begin {task!r}: {state.open_task!r} is open; finish_task() or abort_task() first"
            )
        if task in state.tasks:
            raise ValueError(f"task {task!r} is finished already; finished are {state.tasks}: choose a new name")
        if len(state.tasks) == MAX_TASKS:
            raise CapacityError(f"cannot begin {task!r}: {MAX_TASKS} tasks are the most that one network can hold")
        inventory = self._inventory()
        if inventory.refused:
            name, reason = next(iter(inventory.refused.items()))
            raise ValueError(f"cannot begin {task!r}: parameter {name} is refused: {reason}")
        if not any(bool((owner == FREE).any()) for owner in state.owners.values()):
            weights = sum(owner.numel() for owner in state.owners.values())
            raise CapacityError(
                f"cannot begin {task!r}: no weight is free, all {weights} prunable ones belong to {state.tasks}; "
                "prune every task that others follow with a ratio above 0"
            )
        self.verify()
        number = len(state.tasks) + 1
        owners = {name: claim(owner, number) for name, owner in state.owners.items()}
        self._hold = self._hold_for(owners, number)
        state.owners, state.open_task, state.phase = owners, task, "train"
        state.private[task] = list(private)
        self._keep_norms()

    def hold(self) -> None:
        """Takes the values that must stay while the open task trains, as they are now.

        Needed only where weights were loaded or converted while a task is open: :meth:`begin_task` and :meth:`prune` do
        it by themselves.

        Raises:
            RuntimeError: If no task is open.
        """
        self._hold = self._hold_for(self._state.owners, self._open_number("hold"))
        self._keep_norms()

    def mask_gradients_(self) -> None:
        """Zeroes the gradients of all that the open task may not change. Call it right before ``optimizer.step()``.

        Raises:
            RuntimeError: If no task is open, or inside :meth:`subnetwork`.
        """
        self._holding("mask_gradients_").mask_gradients_()

    def restore_(self) -> None:
        """Puts back, bit for bit, all that the open task may not change. Call it right after ``optimizer.step()``.

        Earlier tasks' weights, and from the second task on biases, norm parameters and running statistics, get the
        values they had when the task was begun; in phase "retrain" the pruned weights are exactly zero.

        Raises:
            RuntimeError: If no task is open, or inside :meth:`subnetwork`.
        """
        self._holding("restore_").restore_()

    def prune(self, ratio: float, *, scope: Scope = "layer") -> None:
        """Zeroes and frees the open task's smallest weights; the task goes on in phase "retrain".

        Args:
            ratio: Share of the task's weights to release, in [0, 1): exactly ``round(ratio * owned)`` are.
            scope: "layer" counts and ranks in each layer (the paper's), "global" over all layers together.

        Raises:
            RuntimeError: If no task is open, or it was pruned already.
            ValueError: If ``ratio`` or ``scope`` is not allowed, or a weight is NaN or infinite.
        """
        number = self._open_number("prune")
        if self._state.phase != "train":
            raise RuntimeError(f"cannot prune {self._state.open_task!r}: it was pruned already; finish_task() is next")
        ratio, scope = check_ratio(ratio), check_scope(scope)
        owned, owners = self._settle().owned, self._state.owners
        mine = {name: trainable(owner, number) for name, owner in owners.items()}
        released = choose_releases(owned, mine, ratio, scope)
        remaining = {name: release(owner, released[name]) for name, owner in owners.items()}
        with torch.no_grad():
            for name, weight in owned.items():
                weight.detach().masked_fill_(released[name], 0)
        self._state.owners, self._state.phase, self._hold = remaining, "retrain", None
        self.hold()

    def finish_task(self) -> None:
        """Freezes the open task for good: what it owns never changes again.

        Raises:
            RuntimeError: If no task is open.
            ValueError: If a tensor that the task uses holds NaN or infinity.
        """
        number = self._open_number("finish_task")
        inventory, state = self._settle(), self._state
        for name, tensor in {**inventory.owned, **inventory.frozen}.items():
            check_finite(name, tensor)
        # Biases, norms and statistics are the first task's; later tasks use them as they are.
        new = {} if state.tasks else inventory.frozen
        marks = task_fingerprints(inventory.owned, state.owners, number, new)
        task = state.names[-1]
        state.fingerprints[task] = marks
        state.tasks.append(task)
        self._close()

    def abort_task(self) -> None:
        """Gives the open task's weights back, at zero; finished tasks are untouched.

        The first task's biases and norms keep what training made of them: they are the next task's to train.

        Raises:
            RuntimeError: If no task is open.
        """
        number = self._open_number("abort_task")
        inventory, state = self._settle(), self._state
        given_back = {name: trainable(owner, number) for name, owner in state.owners.items()}
        with torch.no_grad():
            for name, weight in inventory.owned.items():
                weight.detach().masked_fill_(given_back[name], 0)
        state.owners = {name: release(owner, given_back[name]) for name, owner in state.owners.items()}
        state.private.pop(state.names[-1], None)
        self._close()

    @contextmanager
    def subnetwork(self, task: str) -> Iterator[None]:
        """Shows the module, bit for bit, as it was when ``task`` was finished; at the end all is given back.

        Weights of later tasks are zero inside, in place, and norms with running statistics are in eval mode.

        Raises:
            RuntimeError: If it is used inside itself.
            ValueError: If ``task`` is not finished.
        """
        self._refuse_while_viewing("subnetwork")
        state = self._state
        if task not in state.tasks:
            why = "is still open: it is what the module computes now" if task == state.open_task else "is unknown"
            raise ValueError(f"task {task!r} {why}; subnetwork() shows finished tasks: {state.tasks}")
        number = state.tasks.index(task) + 1
        self._inventory()
        if state.open_task is not None:
            self._settle()
        hidden = {name: ~visible(owner, number) for name, owner in state.owners.items()}
        norms = norms_with_statistics(self.module)
        with zeroed(lambda: self._inventory().owned, hidden), in_eval_mode(norms):
            self._viewed = task
            try:
                yield
            finally:
                self._viewed = None

    def verify(self) -> None:
        """Does nothing if every finished task's weights are, bit for bit, what they were when it was finished.

        Raises:
            RuntimeError: Otherwise; it names the task and the parameter.
        """
        self._refuse_while_viewing("verify")
        inventory, state = self._inventory(), self._state
        for number, task in enumerate(state.tasks, start=1):
            expected = state.fingerprints[task]
            fixed = {name: tensor for name, tensor in inventory.frozen.items() if name in expected}
            found = task_fingerprints(inventory.owned, state.owners, number, fixed)
            for name, mark in expected.items():
                if found.get(name) != mark:
                    raise RuntimeError(
                        f"{name} is not what it was when task {task!r} was finished: it was changed from outside "
                        "(a fit without PackNetCallback? other weights loaded?); load the right weights again"
                    )

    def summary(self) -> Summary:
        """Returns what each task owns, in all and per layer, and which parameters are owned, frozen and refused."""
        return summarize(self._inventory(), self._state.owners, self._state.names)

    @property
    def owners(self) -> dict[str, torch.Tensor]:
        """Parameter name -> uint8 owner map (a copy): 0 is free, k the k-th task."""
        self._inventory()
        return {name: owner.clone() for name, owner in self._state.owners.items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors and primitives only; the weights are in the module's own state dict.

        Raises:
            RuntimeError: If a finished task's weights were changed from outside.
        """
        self.verify()
        return self._state.dump()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state_dict` returned, in any process, before or after the weights are loaded.

        Raises:
            ValueError: If it belongs to another network or contradicts itself.
        """
        self._refuse_while_viewing("load_state_dict")
        shapes = {name: weight.shape for name, weight in self._inventory().owned.items()}
        parsed = State.parse(state, shapes)
        self._close()
        self._state = parsed
        if parsed.open_task is not None:
            self._keep_norms()

    def _inventory(self) -> Inventory:
        """Finds the tensors by name and brings the owner maps to their devices."""
        inventory = take_inventory(self.module, self.prunable)
        if not self._state.names:
            # Nobody owns anything yet, so layers may still have been added or taken shape.
            self._state.owners = {name: all_free(weight) for name, weight in inventory.owned.items()}
        owners = self._state.owners
        if inventory.owned.keys() != owners.keys():
            changed = sorted(inventory.owned.keys() ^ owners.keys())
            raise RuntimeError(f"the module's prunable parameters changed since PackNet was made: {changed[:3]}")
        for name, weight in inventory.owned.items():
            if owners[name].shape != weight.shape:
                raise RuntimeError(
                    f"{name} has shape {tuple(weight.shape)}, its owners {tuple(owners[name].shape)}: it was replaced"
                )
            if owners[name].device != weight.device:
                owners[name] = owners[name].to(weight.device)
        return inventory

    def _hold_for(self, owners: Mapping[str, torch.Tensor], number: int) -> Hold:
        self._held = self._inventory()
        mine = {name: trainable(owner, number) for name, owner in owners.items()}
        return Hold(self._held.owned, mine, self._held.frozen if self._state.tasks else {})

    def _holding(self, action: str) -> Hold:
        number = self._open_number(action)
        if self._hold is None:
            self._hold = self._hold_for(self._state.owners, number)
        assert self._held is not None
        self._hold.bind(*self._held.tensors_now())
        return self._hold

    def _settle(self) -> Inventory:
        """Restores the tensors that the module has now, and returns them."""
        if self._hold is not None:
            self._held = self._inventory()
        self.restore_()
        return self._inventory()

    def _open_number(self, action: str) -> int:
        self._refuse_while_viewing(action)
        if self._state.open_task is None:
            raise RuntimeError(
                f"{action}: no task is open; finished are {self._state.tasks}; call begin_task(name) first"
            )
        return len(self._state.tasks) + 1

    def _refuse_while_viewing(self, action: str) -> None:
        if self._viewed is not None:
            raise RuntimeError(f"{action} inside subnetwork({self._viewed!r}): leave the with block first")

    def _keep_norms(self) -> None:
        for handle in self._norm_handles:
            handle.remove()
        keep = self._state.tasks and self._state.open_task is not None
        self._norm_handles = keep_in_eval_mode(norms_with_statistics(self.module)) if keep else []

    def _close(self) -> None:
        self._state.open_task = self._state.phase = self._hold = self._held = None
        self._keep_norms()
