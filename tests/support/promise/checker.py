"""The promise checker: whatever trains later, a finished task is, bit for bit, what it was.

Where each process has rows of the tensors, each looks at its own.

``check_promise`` takes a LightningModule through several tasks and compares, after each one, every earlier task with
what was taken from the live network before its ``finish_task``: not with a second call of the code that is tested.
:class:`Promise` does the same step by step, for tests in which more happens between the tasks.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from packnet_pl import PackNet, PackNetCallback, fit_task
from packnet_pl.core.shards import localized, own_part

TASKS = ("a", "b", "c")
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass
class Subject:
    """A module under test, and how to use it.

    Attributes:
        module: Has ``packnet``; knows nothing else of the package.
        data: Task -> what ``Trainer.fit`` takes.
        ask: Called with a task; returns the answers (tensors) of the live module to a fixed probe.
        select: Called with a task before it is fitted or asked.
        private: Task -> names of the modules of this task alone.
    """

    module: pl.LightningModule
    data: Callable[[str], Any]
    ask: Callable[[str], Iterable[Tensor]]
    select: Callable[[str], None] = lambda _: None
    private: Callable[[str], list[str]] = lambda _: []


@dataclass
class Finished:
    """What a task was before ``finish_task``: the bits of all that it uses."""

    answers: list[Tensor]
    shared: dict[str, Tensor]
    private: dict[str, Tensor]


@dataclass
class PrunedStayZero(pl.Callback):
    """After each batch of a retraining, all that was pruned is exactly zero: all bits."""

    setting: str
    task: str
    batches: int = 0
    pruned: dict[str, Tensor] = field(default_factory=dict)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.pruned = {name: owner.cpu() == 0 for name, owner in owners_of(pl_module.packnet).items()}
        assert any(mask.any() for mask in self.pruned.values()), "nothing was pruned: the check would be empty"

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.batches += 1
        for name, weight in owned_weights(pl_module.packnet).items():
            assert not bits(weight)[self.pruned[name]].any(), (
                f"pruned weights of {name} are not zero while task {self.task!r} is retrained under {self.setting}"
            )


class Promise:
    """Takes the tasks of a subject one after the other, and remembers what each was when it was finished.

    Args:
        subject: What is trained; may be replaced between tasks, by a copy or by a module that read a checkpoint.
        setting: Under which optimizer, precision, ... for the message.
    """

    def __init__(self, subject: Subject, setting: str) -> None:
        self.subject, self.setting = subject, setting
        self.finished: dict[str, Finished] = {}

    def fit(
        self,
        task: str,
        *,
        trainer: Callable[..., pl.Trainer],
        ratio: float | None = 0.5,
        strict: bool = True,
        **fit: Any,
    ) -> None:
        """Takes a task from begin to finish, and checks all finished tasks.

        Args:
            task: A new one, or one that is open.
            trainer: Called with callbacks, returns a Trainer.
            ratio: Prune ratio; None keeps all and does not retrain.
            strict: Whether pruned weights must be zero right after a step, before any other callback has seen them;
                else at the end of the batch.
            fit: Further arguments of ``fit_task``.
        """
        subject, packnet = self.subject, self.subject.module.packnet
        subject.select(task)
        watches: list[PrunedStayZero] = []

        def settled(module: pl.LightningModule) -> None:
            assert packnet.open_task == task
            self.remember(task)

        def make_trainer(phase: str, callback: PackNetCallback) -> pl.Trainer:
            if phase == "train":
                return trainer(callback)
            watches.append(PrunedStayZero(self.setting, task))
            return trainer(*([watches[0], callback] if strict else [callback, watches[0]]))

        before = {name: bits(weight) for name, weight in owned_weights(packnet).items()}
        fit_task(
            subject.module,
            subject.data(task),
            task=task,
            prune_ratio=ratio,
            private=subject.private(task),
            make_trainer=make_trainer,
            settled=settled,
            **fit,
        )
        assert all(watch.batches for watch in watches), "no batch was watched: the check would be empty"
        number, owners = packnet.tasks.index(task) + 1, owners_of(packnet)
        moved = any(
            (bits(weight) != localized(before[name], weight))[owners[name].cpu() == number].any()
            for name, weight in owned_weights(packnet).items()
        )
        assert moved, f"task {task!r} learned nothing under {self.setting}: the check would be empty"
        self.check(after=task)

    def remember(self, task: str) -> None:
        """Takes what the open task is now, from the live network. Call it right before the task is finished."""
        number = len(self.subject.module.packnet.tasks) + 1
        self.finished[task] = Finished(
            asked(self.subject, task),
            used_by(self.subject.module.packnet, number),
            private_tensors(self.subject, task),
        )

    def remember_answers(self, task: str) -> None:
        """Takes the answers of a finished task anew, where it is computed in another way from now on.

        Another memory format or device may round otherwise. Weights are still compared with what they were.
        """
        self.finished[task].answers = asked(self.subject, task)

    def check(self, *, after: str) -> None:
        """Fails if a task is not what it was when it was finished; names the first thing that differs.

        Args:
            after: The task that has been fitted last, or another word for what has happened.
        """
        packnet = self.subject.module.packnet
        for task, before in self.finished.items():
            where = f"task {task!r} changed after task {after!r} under {self.setting}"
            number = packnet.tasks.index(task) + 1
            # Outside the subnetwork too, as a checkpoint has them.
            outside = used_by(packnet, number)
            _same(
                {name: before.shared[name] for name in packnet.owners}, {n: outside[n] for n in packnet.owners}, where
            )
            with packnet.subnetwork(task):
                shared, answers = used_by(packnet, number), asked(self.subject, task)
            _same(before.shared, shared, where)
            _same(before.private, private_tensors(self.subject, task), where)
            assert len(answers) == len(before.answers), f"{where}: number of answers"
            for was, now in zip(before.answers, answers, strict=True):
                assert torch.equal(was, now), f"{where}: the bits of its answers"


def check_promise(
    subject: Subject,
    setting: str,
    *,
    trainer: Callable[..., pl.Trainer],
    tasks: Iterable[str] = TASKS,
    ratio: float = 0.5,
    between: Callable[[str], None] = lambda _: None,
    strict: bool = True,
    **fit: Any,
) -> None:
    """Fits the tasks one after the other; fails if a finished task is not, bit for bit, what it was.

    Args:
        subject: What to train.
        setting: Under which optimizer, precision, ... for the message.
        trainer: Called with callbacks, returns a Trainer.
        tasks: In order; the last one is not pruned.
        ratio: Prune ratio of the others.
        between: Called with each task after it was finished; all is compared once more after it.
        strict: Whether pruned weights must be zero right after a step, or only at the end of the batch.
        fit: Further arguments of ``fit_task``.
    """
    tasks, promise = list(tasks), Promise(subject, setting)
    for task in tasks:
        promise.fit(task, trainer=trainer, ratio=None if task == tasks[-1] else ratio, strict=strict, **fit)
        between(task)
        promise.check(after=task)
    assert subject.module.packnet.tasks == tasks
    subject.module.packnet.verify()


def bits(tensor: Tensor) -> Tensor:
    """A copy of the memory of a tensor as integers: tells -0.0 from 0.0, and NaN equals itself."""
    tensor = own_part(tensor).detach().cpu().contiguous()
    return tensor.view(INTEGERS[tensor.element_size()]).clone()


def owned_weights(packnet: PackNet) -> dict[str, Tensor]:
    names = packnet.owners  # first: what was gathered for a forward pass is freed
    parameters = {plain(name): parameter for name, parameter in packnet.module.named_parameters(remove_duplicate=False)}
    return {name: parameters[name] for name in names}


def owners_of(packnet: PackNet) -> dict[str, Tensor]:
    return {name: own_part(owner) for name, owner in packnet.owners.items()}


def plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def used_by(packnet: PackNet, number: int) -> dict[str, Tensor]:
    """Name -> bits of all in the shared part that the task of this number computes with, as the module is now.

    That is without what a learned mask leaves out.
    """
    owners, unused = owners_of(packnet), packnet.unused.get(packnet.state.names[number - 1], {})
    found = {}
    for full_name, tensor in packnet.module.state_dict().items():
        name = plain(full_name)
        tensor = own_part(tensor)
        # As wide as the tensor is: a task that was finished before the module grew is shown narrower.
        owner = owners[name][tuple(map(slice, tensor.shape))] if name in owners else None
        mine = (owner > 0) & (owner <= number) if owner is not None else None
        if mine is not None and name in unused:
            mine &= ~own_part(unused[name])
        found[name] = bits(tensor if mine is None else tensor[mine])
    return found


def private_tensors(subject: Subject, task: str) -> dict[str, Tensor]:
    return {
        f"{plain(name)}.{plain(key)}": bits(tensor)
        for name in subject.private(task)
        for key, tensor in subject.module.get_submodule(name).state_dict().items()
    }


def asked(subject: Subject, task: str) -> list[Tensor]:
    """Bits of the answers in eval mode. Modes are given back: Lightning trains a module in the modes that it finds."""
    modes = [(layer, layer.training) for layer in subject.module.modules()]
    subject.select(task)
    subject.module.eval()
    with torch.no_grad():
        answers = [bits(answer) for answer in subject.ask(task)]
    for layer, mode in modes:
        layer.training = mode
    return answers


def _same(before: Mapping[str, Tensor], now: Mapping[str, Tensor], where: str) -> None:
    assert before.keys() == now.keys(), f"{where}: its tensors are {sorted(before.keys() ^ now.keys())}"
    for name, was in before.items():
        assert torch.equal(was, now[name]), f"{where}: {name}"
