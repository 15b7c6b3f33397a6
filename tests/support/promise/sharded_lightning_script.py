"""Run as several processes: tasks are trained under ModelParallelStrategy, each process with rows of all parameters.

    python -m tests.support.promise.sharded_lightning_script FOLDER PROCESSES ROW...

Lightning starts it once more for each other process. After each row, each leaves ``FOLDER/ROW.RANK.pt``.
"""

import logging
import os
import sys
import traceback
import warnings
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, WeightAveraging
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.checkpoint.state_dict_loader import load
from torch.utils.data import DataLoader, TensorDataset

from packnet_pl import PackNet, PackNetCallback, PruneRule, TaskClassifier, load_packed, save_packed
from packnet_pl.core import load_sharded_state, taylor
from packnet_pl.core.shards import own_part
from packnet_pl.training import DenseTeacher, Distillation, RecalibrateNorms, Recipe, ShardedStrategy, shard_
from tests.support.promise.checker import Promise, Subject, bits, check_promise
from tests.support.promise.masks import MASK, asked_with_mask
from tests.support.promise.own_modules import MOMENTUM, quiet
from tests.support.promise.sharded_run import ResNet, Transformer, gathered, raised, same, whole
from tests.support.promise.user_modules import ADAMW, UserModule, subject_of, vectors

RANK = int(os.environ.get("LOCAL_RANK", "0"))
FOLDER, PROCESSES, *ROWS = sys.argv[1:]


def fsdp(*callbacks, **settings):
    strategy = ModelParallelStrategy(data_parallel_size=int(PROCESSES), tensor_parallel_size=1)
    return quiet(*callbacks, **{"devices": int(PROCESSES), "strategy": strategy, **settings})


class Divided(UserModule):
    """A user's module: whatever it has, it gives to ``fully_shard``."""

    def configure_model(self):
        for part in [self.backbone, *self.heads.values()]:
            shard_(part, self.device_mesh["data_parallel"])


class MadeLater(Divided):
    """Its layers are made in ``configure_model`` without memory; Lightning gives them memory when they are divided."""

    def __init__(self):
        pl.LightningModule.__init__(self)
        self.task, self.read, self.make_optimizer, self.backbone = "a", lambda out: out, ADAMW, None

    def configure_model(self):
        if self.backbone is None:
            with torch.device("meta"):
                self.backbone = nn.Sequential(nn.Linear(32, 7), nn.Tanh(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 2))
                self.heads = nn.ModuleDict({task: nn.Linear(2, 3) for task in "abc"})
            self.packnet = PackNet(self.backbone)
        super().configure_model()


def subject(make=Transformer, optimizer=ADAMW, kind=Divided, **packnet):
    torch.manual_seed(0)  # fully_shard sends nothing: each process has the values that it drew
    used = subject_of(kind(make(), 2, optimizer=optimizer, **packnet), vectors(32), n=48)
    compare_with_one_process(used.module.packnet, make)
    return used


def compare_with_one_process(packnet, make):
    """Each pruning chooses what one process chooses that has the same weights and owners."""
    prune = packnet.prune

    def both(ratio, *, agree=None, **settings):
        state, weights = gathered(packnet.state_dict()), whole(packnet.module.state_dict())
        net = make()
        net.load_state_dict(weights, assign=True)
        alone = PackNet.from_state(net, state)
        alone.prune(ratio, **settings)
        prune(ratio, agree=agree, **settings)
        assert same(alone.owners, whole(packnet.owners)), "one process would release others"
        assert same(alone.module.state_dict(), whole(packnet.module.state_dict()))

    packnet.prune = both


def validated(used):
    """Validates with the images that are trained with."""
    train = used.data

    def data(task):
        images = train(task).dataset
        return pl.LightningDataModule.from_datasets(images, images, batch_size=8)

    used.data = data
    return used


def promised(used, setting, trainer=fsdp, **settings):
    check_promise(used, f"ModelParallelStrategy, {setting}", trainer=trainer, **settings)
    return {}


def transformer():
    return promised(subject(), "a transformer")


def resnet():
    used = subject(ResNet, MOMENTUM)
    promised(used, "a residual network")
    mean = used.module.backbone.blocks[0].norm.running_mean
    first = used.module.trainer.strategy.broadcast(mean)
    return {"statistics are the same everywhere": torch.equal(first, mean)}


def accumulated():
    trainer = partial(fsdp, accumulate_grad_batches=2, gradient_clip_val=0.1)
    return promised(subject(), "accumulated and clipped", trainer)


def mixed_precision():
    return promised(subject(), "bf16-mixed", partial(fsdp, precision="bf16-mixed"))


def pruned_by_gradients():
    rule = PruneRule(taylor, "global", schedule="gradual")
    return promised(subject(), "taylor, global, gradual", partial(fsdp, max_epochs=3), rule=rule)


def per_task():
    used = subject(ResNet, MOMENTUM, norm="per_task", bias="per_task")
    return promised(used, "norms and biases per task")


def learned_masks():
    """The best epoch has the scores of its masks, too."""
    used = asked_with_mask(validated(subject(kind=Scored)))
    promised(used, "learned masks", partial(fsdp, max_epochs=2), mask=MASK, select="best")
    return {"tasks have masks": used.module.packnet.state.masks.keys() == {"b", "c"}}


def learned_pruning():
    rule = PruneRule(schedule="learned", scope="global")
    return promised(subject(), "schedule='learned'", partial(fsdp, max_epochs=2), rule=rule)


def sharded_strategy():
    return promised(subject(), "ShardedStrategy", lambda *own: fsdp(*own, strategy=ShardedStrategy()))


class Scored(Divided):
    def validation_step(self, batch, batch_idx):
        *inputs, labels = batch
        accuracy = (self(*inputs).argmax(1) == labels).float().mean()
        self.log("val_accuracy", accuracy, batch_size=len(labels), sync_dist=True)


class ScoresByRank(Divided):
    """Its metric rises with the epochs in process 0 and falls in others, and is not averaged."""

    def validation_step(self, batch, batch_idx):
        self.log("val_accuracy", float(self.current_epoch * (1 if RANK == 0 else -1)), batch_size=1)


def best_epoch():
    """Rows of one epoch in all processes: the one that process 0 chooses."""
    used = validated(subject(kind=ScoresByRank))
    return promised(used, "select='best'", partial(fsdp, max_epochs=3), select="best")


def made_later():
    used = subject_of(MadeLater(), vectors(32), n=48)
    fit = partial(fsdp, max_epochs=1)
    callback = PackNetCallback(task="a", phase="train", prune_ratio=0.5, private="heads.a")
    fit(callback).fit(used.module, used.data("a"))
    promise = Promise(used, "ModelParallelStrategy, made later")
    settled = lambda _: promise.remember("a")  # noqa: E731
    fit(PackNetCallback(task="a", phase="retrain", private="heads.a", settled=settled)).fit(used.module, used.data("a"))
    promise.fit("b", trainer=fsdp)
    return {"it is divided": len(own_part(used.module.backbone[0].weight)) < 7}


class Images(nn.Module):
    """The transformer as the backbone of a TaskClassifier."""

    num_features = 2

    def __init__(self):
        super().__init__()
        self.body = Transformer()

    def forward(self, images):
        return self.body(images.flatten(1))


def classifier(seed=0):
    torch.manual_seed(seed)
    recipe = Recipe(ADAMW)
    return TaskClassifier(Images(), recipes={"train": recipe, "retrain": recipe})


def classifier_subject():
    module = classifier()

    def data(task):
        torch.manual_seed(ord(task))
        labels = torch.randint(3, (48,))
        return DataLoader(TensorDataset(torch.randn(48, 1, 4, 8) + labels.reshape(-1, 1, 1, 1), labels), batch_size=8)

    def select(task):
        if task not in module.tasks:
            module.add_task(task, num_classes=3, input_shape=(1, 4, 8))
        module.select_task(task)

    def ask(task):
        features = module.backbone(torch.linspace(-1, 1, 128).reshape(4, 1, 4, 8))
        return [features, module.heads[task](features)]

    compare_with_one_process(module.packnet, Images)
    return Subject(module, data, ask, select, module.private_modules)


def task_classifier():
    """Heads are added between the fits; a module that knows nothing loads the end, and one file packs it."""
    used = classifier_subject()
    module = used.module
    promised(used, "TaskClassifier")
    images = torch.linspace(-1, 1, 128).reshape(4, 1, 4, 8)
    logits = {task: module(images, task=task) for task in module.tasks}
    trainer, path = fsdp(), Path(FOLDER, "finished.ckpt")
    tested = trainer.test(module, used.data("c"), verbose=False)
    trainer.save_checkpoint(path)
    again = classifier(seed=9)
    notes = {"tested alike": fsdp().test(again, used.data("c"), ckpt_path=path, verbose=False) == tested}
    notes["tasks are loaded"] = again.packnet.tasks == again.tasks == ["a", "b", "c"]
    notes["logits are what they were"] = all(
        torch.equal(logits[task], again(images, task=task)) and torch.equal(logits[task], module(images, task=task))
        for task in logits
    )
    again.packnet.verify(again)
    alone = TaskClassifier.load_from_checkpoint(path, backbone=Images())
    alone.packnet.verify(alone)
    notes["one process loads it"] = same(alone.state_dict(), whole(module.state_dict()))
    notes["with its tasks"] = same(alone.packnet.owners, whole(module.packnet.owners))
    save_packed(module, Path(FOLDER, "packed.safetensors"))
    read = load_packed(Path(FOLDER, "packed.safetensors"), backbone=Images())
    notes["packed"] = all(torch.allclose(read(images, task=task), logits[task], atol=1e-5) for task in logits)
    return notes


def _train(task, ratio=None):
    return PackNetCallback(task=task, phase="train", prune_ratio=ratio, private=f"heads.{task}")


def resumed():
    """From a checkpoint in the middle of the second task, with a module that knows nothing."""
    used = subject()
    promise = Promise(used, "ModelParallelStrategy, resumed")
    promise.fit("a", trainer=fsdp)
    used.select("b")
    saving = ModelCheckpoint(Path(FOLDER, "saved"), "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    straight = fsdp(_train("b"), saving, max_epochs=2, enable_checkpointing=True)
    straight.fit(used.module, used.data("b"))
    again = subject()
    again.select("b")
    fsdp(_train("b"), max_epochs=2).fit(again.module, again.data("b"), ckpt_path=Path(FOLDER, "saved", "epoch=0.ckpt"))
    promise.subject = again
    promise.check(after="b, which was resumed")
    there, here = used.module.state_dict(), again.module.state_dict()
    owners = same(whole(used.module.packnet.owners), whole(again.module.packnet.owners))
    return {
        "as without a break": all(torch.equal(bits(there[name]), bits(here[name])) for name in there),
        "owners too": owners,
    }


def on_other_processes():
    """Loads what as many processes as there were in ``SAVED_BY`` wrote, and goes on."""
    path = Path(os.environ["SAVED_BY"], "saved", "epoch=0.ckpt")
    alone = UserModule(Transformer(), 2)
    load({"state_dict": alone.state_dict()}, checkpoint_id=path, no_dist=True)
    load_sharded_state(alone.packnet, path, "state_dict.packnet")
    used = subject()
    used.select("b")
    loaded = {}

    class Look(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            loaded.update(owners=whole(pl_module.packnet.owners), weights=whole(pl_module.state_dict()))

    fsdp(_train("b"), Look(), max_epochs=2).fit(used.module, used.data("b"), ckpt_path=path)
    used.module.packnet.verify(used.module)
    return {
        "owners are those that were saved": same(alone.packnet.owners, loaded["owners"]),
        "weights are those that were saved": same(alone.state_dict(), loaded["weights"]),
        "tasks": used.module.packnet.tasks == ["a", "b"],
    }


def beside_ddp():
    """The same data and seeds under DDP: it adds the same gradients up in another way, so bits may differ."""
    found = {}
    ddp = partial(quiet, devices=int(PROCESSES), strategy="ddp")
    for name, trainer, kind in (("ddp", ddp, UserModule), ("fsdp", fsdp, Divided)):
        torch.manual_seed(0)
        used = subject_of(kind(Transformer(), 2, optimizer=ADAMW), vectors(32), n=48)
        trainer(_train("a"), max_epochs=2).fit(used.module, used.data("a"))
        found[name] = whole(used.module.state_dict())
    far = max(float((found["ddp"][name] - found["fsdp"][name]).abs().max()) for name in found["ddp"])
    return {f"weights differ by {far:.1e} at most": far < 1e-5}


class KeepsHeads(Divided):
    """Divides the shared part only."""

    def configure_model(self):
        shard_(self.backbone, self.device_mesh["data_parallel"])


class KeepsAll(UserModule):
    """Divides nothing."""

    def configure_model(self):
        pass


def refused():
    """What is not divided, or copies the network, is refused by all, before anything is changed."""
    used, distilling = subject(), classifier()
    recipe = Recipe(ADAMW)
    distilling.recipes = {"train": recipe, "retrain": Recipe(ADAMW, distillation=Distillation(0.5))}
    distilling.add_task("a", num_classes=3)
    teacher = DenseTeacher(lambda module: module.backbone)

    def is_refused(message, module, *callbacks, private="heads.a"):
        callback = PackNetCallback(task="a", phase="train", prune_ratio=0.5, private=private)
        return raised(ValueError, message, lambda: fsdp(callback, *callbacks).fit(module, used.data("a")))

    notes = {
        "averages": is_refused("copies the network", used.module, WeightAveraging()),
        "a teacher": is_refused("copies the network", used.module, teacher),
        "distillation": is_refused("copies the network", distilling, private=None),
        "norms computed anew": is_refused("copies the network", used.module, RecalibrateNorms()),
        "heads that are whole": is_refused("heads.a.weight and 5 more would be", KeepsHeads(Transformer(), 2)),
        "nothing is divided": is_refused("would be trained by each process", KeepsAll(Transformer(), 2)),
    }
    packnet = used.module.packnet
    return {**notes, "nothing is open": packnet.open_task is None and not packnet.tasks}


def other_tasks():
    """A process that knows other tasks than the others."""
    used = subject()
    Promise(used, "ModelParallelStrategy").fit("a", trainer=fsdp)
    if RANK == 1:
        used.module.packnet = PackNet(used.module.backbone)
    used.select("b")
    noticed = raised(ValueError, "do not agree", lambda: fsdp(_train("b")).fit(used.module, used.data("b")))
    return {"noticed everywhere": noticed}


def main():
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    for row in ROWS:
        try:
            left = {"notes": globals()[row](), "error": ""}
        except Exception:
            left = {"notes": {}, "error": traceback.format_exc()}
        torch.save(left, Path(FOLDER, f"{row}.{RANK}.pt"))
        if left["error"]:
            break  # the others may be waiting for it


if __name__ == "__main__":
    main()
