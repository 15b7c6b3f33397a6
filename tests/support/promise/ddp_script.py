"""Run as two processes: tasks are trained with strategy="ddp", and each rank writes what it has then.

    python -m tests.support.promise.ddp_script FOLDER DEVICE ROW...

Lightning starts it once more for the second rank. After each row, a rank leaves ``FOLDER/ROW.RANK.pt``.
"""

import logging
import os
import sys
import traceback
import warnings
from copy import deepcopy
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn

from packnet_pl import PackNet, PackNetCallback, PruneRule, TaskClassifier
from packnet_pl.core import taylor
from packnet_pl.models import vgg_small
from packnet_pl.training import Distillation, Recipe
from tests.support.promise.checker import Promise, Subject, asked, bits, check_promise
from tests.support.promise.masks import MASK, masked_subject
from tests.support.promise.own_modules import MOMENTUM, quiet
from tests.support.promise.user_modules import BuiltLater, UserModule, images, subject_of

RANK = int(os.environ.get("LOCAL_RANK", "0"))
FOLDER, DEVICE, *ROWS = sys.argv[1:]


def ddp(*callbacks, **settings):
    return quiet(*callbacks, **{"accelerator": DEVICE, "devices": 2, "strategy": "ddp", **settings})


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.fc1, self.bn1, self.fc2 = nn.Linear(6 * 36, 12), nn.BatchNorm1d(12), nn.Linear(12, 8)

    def forward(self, x):
        x = torch.tanh(self.bn(self.conv(x)))
        return self.fc2(torch.tanh(self.bn1(self.fc1(x.flatten(1)))))


def user_subject(module=None):
    """Each rank gets every second image."""
    return subject_of(module or UserModule(Net(), 8), images(), n=48)


def differs(tensor):
    """Whether the ranks have other values of a tensor."""
    found = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(found, tensor.detach().contiguous())
    return not torch.equal(found[0], found[1])


class Watch(pl.Callback):
    """How the ranks differ at the end of each training, before anything is done about it."""

    def __init__(self):
        self.statistics_differ = []

    def on_train_end(self, trainer, pl_module):
        self.statistics_differ.append(differs(pl_module.backbone.bn.running_mean))


def heads_of_all_tasks(synchronized=False, **settings):
    """DDP waits for gradients of all heads, also those of tasks yet to come, unless it is told."""
    used, watch = user_subject(), Watch()
    check_promise(used, "ddp", trainer=lambda *own: ddp(watch, *own, **settings))
    expected = [not synchronized] * 2 + [False] * 3
    return used, {"statistics differed where each rank moved its own": watch.statistics_differ == expected}


def accumulation():
    return heads_of_all_tasks(accumulate_grad_batches=2)


def per_task():
    used, watch = user_subject(UserModule(Net(), 8, norm="per_task", bias="per_task")), Watch()
    packnet = used.module.packnet
    check_promise(used, "ddp, norms and biases per task", trainer=lambda *own: ddp(watch, *own))
    means = [copies["bn.running_mean"] for copies in packnet.state_dict()["copies"].values()]
    return used, {
        "statistics differed": watch.statistics_differ == [True] * 5,
        "tasks have their own": not torch.equal(means[0], means[1]) and not torch.equal(means[1], means[2]),
    }


def gradual_taylor():
    """Sums of gradients, and choices in the middle of the retraining, are the same on both ranks."""
    used, rule = user_subject(), PruneRule(taylor, "global", schedule="gradual")
    check_promise(used, "ddp, gradual, taylor", trainer=lambda *own: ddp(*own, max_epochs=3), rule=rule)
    return used, {"no sums are left": used.module.packnet.state.accumulators is None}


def learned_masks():
    used = masked_subject(UserModule(Net(), 8), n=48)
    check_promise(used, "ddp, learned masks", trainer=lambda *own: ddp(*own, max_epochs=2), mask=MASK)
    packnet = used.module.packnet
    return used, {
        "tasks have masks": packnet.unused.keys() == {"b", "c"},
        "masks are the same": not any(differs(m) for mask in packnet.state.masks.values() for m in mask.values()),
    }


def learned_pruning():
    """Each forward pass ranks weights anew, from the gradients of both ranks: ties or rounding must not part them."""
    used, rule = user_subject(), PruneRule(schedule="learned", scope="global")
    check_promise(used, "ddp, schedule='learned'", trainer=lambda *own: ddp(*own, max_epochs=2), rule=rule)
    owners = torch.cat([owner.flatten() for owner in used.module.packnet.owners.values()])
    return used, {"half of the weights were released": int((owners == 1).sum()) == len(owners) - round(len(owners) / 2)}


class ScoresByRank(UserModule):
    """Its metric rises with the epochs on rank 0 and falls on rank 1, and is not averaged."""

    def validation_step(self, batch, batch_idx):
        self.log("val_accuracy", float(self.current_epoch * (1 if RANK == 0 else -1)), batch_size=1)

    def on_validation_end(self):
        if self.current_epoch == (2 if RANK == 0 else 0):
            self.at_best = self.heads[self.task].weight.detach().clone()


class Chosen(pl.Callback):
    """Whether the ranks would choose other weights; whether rank 0's are kept. Comes before PackNet's callback."""

    def __init__(self, differ, kept):
        self.differ, self.kept = differ, kept

    def on_fit_end(self, trainer, pl_module):
        self.differ.append(differs(pl_module.at_best))

    def teardown(self, trainer, pl_module, stage):
        self.kept.append(torch.equal(pl_module.heads[pl_module.task].weight.cpu(), pl_module.at_best.cpu()))


def best_epoch():
    used = user_subject(ScoresByRank(Net(), 8))
    train, differ, kept = used.data, [], []
    used.data = lambda task: pl.LightningDataModule.from_datasets(
        train(task).dataset, train(task).dataset, batch_size=8
    )
    check_promise(
        used,
        "ddp, select='best'",
        trainer=lambda *own: ddp(Chosen(differ, kept), *own, max_epochs=3),
        select="best",
    )
    return used, {"ranks chose other epochs": differ == [True] * 5, "rank 0's was kept": kept == [RANK == 0] * 5}


def distillation():
    return task_classifier(distillation=Distillation(0.5))


def task_classifier(**retrain):
    recipes = {"train": Recipe(MOMENTUM), "retrain": Recipe(MOMENTUM, **retrain)}
    module = TaskClassifier(vgg_small(image_size=8, stages=((4,), (6,)), hidden=8), recipes=recipes)

    def select(task):
        if task not in module.tasks:
            module.add_task(task, num_classes=3)
        module.select_task(task)

    def ask(task):
        features = module.backbone(torch.linspace(-1, 1, 256).reshape(4, 1, 8, 8).to(module.device))
        return [features, module.heads[task](features)]

    used = Subject(module, user_subject().data, ask, select, module.private_modules)
    check_promise(used, "ddp, TaskClassifier", trainer=ddp)
    return used, {}


@torch.no_grad()
def spoil(module):
    if RANK == 1:
        module.backbone.fc1.weight.copy_(torch.randn_like(module.backbone.fc1.weight))


class Spoil(pl.Callback):
    """Gives rank 1 other weights at the end of the fit. Comes before PackNet's callback."""

    def on_fit_end(self, trainer, pl_module):
        spoil(pl_module)


def one_choice(where):
    """Prunes the first task with weights that differ between the ranks, and goes on from there."""
    used, notes = user_subject(), {}
    module = used.module

    def settled(module):
        if where == "in settled":
            spoil(module)
            notes["weights differed"] = differs(module.backbone.fc1.weight)

    callback = PackNetCallback(task="a", phase="train", prune_ratio=0.5, private="heads.a", settled=settled)
    ddp(*[Spoil()] * (where == "before"), callback).fit(module, used.data("a"))
    notes["owners are the same"] = not differs(module.packnet.owners["fc1.weight"])
    promise = Promise(used, "ddp, weights that differ when they are ranked")
    ddp(
        PackNetCallback(task="a", phase="retrain", private="heads.a", settled=lambda _: promise.remember("a"))
    ).fit(module, used.data("a"))  # fmt: skip
    promise.fit("b", trainer=ddp)
    return used, notes


def one_choice_before():
    return one_choice("before")


def one_choice_in_settled():
    return one_choice("in settled")


def configure_model():
    used = user_subject(BuiltLater(Net))
    promise = Promise(used, "ddp, configure_model")
    train = PackNetCallback(task="a", phase="train", prune_ratio=0.5, private="heads.a")
    retrain = PackNetCallback(task="a", phase="retrain", private="heads.a", settled=lambda _: promise.remember("a"))
    for callback in (train, retrain):
        ddp(callback).fit(used.module, used.data("a"))
    promise.fit("b", trainer=ddp)
    return used, {}


def resumed():
    """From a checkpoint in the middle of the second task, with a module that knows nothing."""
    used = user_subject()
    promise = Promise(used, "ddp, resumed")
    promise.fit("a", trainer=ddp)
    used.select("b")
    saving = ModelCheckpoint(Path(FOLDER, "saved"), "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    straight = ddp(_train("b"), saving, max_epochs=2, enable_checkpointing=True)
    straight.fit(used.module, used.data("b"))
    again = user_subject()
    again.select("b")
    ddp(_train("b"), max_epochs=2).fit(
        again.module, again.data("b"), ckpt_path=Path(FOLDER, "saved", "epoch=0.ckpt"), weights_only=True
    )
    promise.subject = again
    promise.check(after="b, which was resumed")
    there, here = used.module.state_dict(), again.module.state_dict()
    return again, {"as without a break": all(torch.equal(bits(there[name]), bits(here[name])) for name in there)}


def _train(task, ratio=None):
    return PackNetCallback(task=task, phase="train", prune_ratio=ratio, private=f"heads.{task}")


def refused(used, *matches, trainer=ddp):
    """Notes whether the next fit is refused, and leaves all as it was."""
    used.select("b")
    before = written(used)
    try:
        trainer(_train("b")).fit(used.module, used.data("b"))
    except (ValueError, RuntimeError) as error:
        message = str(error)
    else:
        message = "not refused"
    packnet, after = used.module.packnet, written(used)
    same = all(torch.equal(bits(value), bits(after["owners"][name])) for name, value in before["owners"].items())
    return used, {
        f"refused: {message}": any(match in message for match in matches),
        "no task is open": packnet.open_task is None and packnet.tasks == before["tasks"],
        "owners stay": same,
    }


def ranks_disagree(change, **packnet):
    """Gives rank 1 another state, which is as good in itself, and fits the next task."""
    used = user_subject(UserModule(Net(), 8, **packnet))
    Promise(used, "ddp").fit("a", trainer=ddp)
    state = deepcopy(used.module.packnet.state_dict())
    if RANK == 1:
        change(state)
    used.module.packnet.load_state_dict(state)
    return refused(used, "do not agree")


def other_owners():
    def change(state):
        owner = state["owners"]["fc1.weight"]
        state["owners"]["fc1.weight"] = owner.flip(0, 1)
        assert not torch.equal(owner, state["owners"]["fc1.weight"])

    return ranks_disagree(change)


def other_copies():
    def change(state):
        copies, marks = state["copies"]["a"], state["fingerprints"]["a"]
        # All the same numbers, in another place: the state is whole, and would be believed.
        for kept in (copies, marks):
            kept["bn1.weight"], kept["fc1.bias"] = kept["fc1.bias"], kept["bn1.weight"]

    return ranks_disagree(change, norm="per_task", bias="per_task")


def no_tasks_on_rank_1():
    used = user_subject()
    Promise(used, "ddp").fit("a", trainer=ddp)
    if RANK == 1:
        used.module.packnet = PackNet(used.module.backbone)
    # Parameters that need no gradient are not DDP's, so torch may find out first that the ranks differ.
    found = refused(used, "do not agree", "same model across all ranks")
    used.module.packnet = PackNet(used.module.backbone)
    return found


def model_parallel():
    used = user_subject()
    return refused(used, "tensor_parallel_size=2", trainer=lambda *own: ddp(*own, strategy=ModelParallelStrategy()))


def sync_batchnorm():
    """Only on GPUs: torch has no SyncBatchNorm for two CPU processes."""
    return heads_of_all_tasks(synchronized=True, sync_batchnorm=True)


def mixed_16():
    # Its first steps may be skipped, as the scale of the gradients is still too large.
    used = user_subject()
    check_promise(used, "ddp, 16-mixed", trainer=lambda *own: ddp(*own, precision="16-mixed", max_epochs=3))
    return used, {}


def written(used):
    packnet = used.module.packnet
    answers = {}
    for task in packnet.tasks:
        with packnet.subnetwork(task):
            answers[task] = asked(used, task)
    return {
        "tasks": packnet.tasks,
        "owners": {name: owner.cpu() for name, owner in packnet.owners.items()},
        "weights": {name: value.cpu() for name, value in used.module.state_dict().items()},
        "answers": answers,
    }


def main():
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    for row in ROWS:
        # As users have it: each rank draws weights of its own.
        torch.manual_seed(RANK)
        try:
            used, notes = globals()[row]()
            left = {**written(used), "notes": notes, "error": ""}
        except Exception:
            left = {"error": traceback.format_exc()}
        torch.save(left, Path(FOLDER, f"{row}.{RANK}.pt"))


if __name__ == "__main__":
    main()
