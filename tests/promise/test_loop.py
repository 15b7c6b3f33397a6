"""Nothing is forgotten, whatever else a training loop does."""

import shutil
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from pytorch_lightning.tuner import Tuner
from torch import nn, optim
from torch.optim.swa_utils import get_ema_avg_fn
from torch.utils.checkpoint import checkpoint

from packnet_pl import PackNetCallback
from packnet_pl.core.freezing import Freezer
from tests.support.cases import breadth
from tests.support.promise.checker import Promise, bits, check_promise, owned_weights
from tests.support.promise.own_modules import (
    FEATURES,
    ConvNet,
    OwnModule,
    WithValidation,
    fit_phase,
    loader,
    quiet,
    subject,
    trainer,
)

pytestmark = pytest.mark.promise("Training loop")

SETTINGS = {
    "gradient clipping by norm": {"gradient_clip_val": 0.1},
    "gradient clipping by value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    "gradients accumulated over 2 batches": {"accumulate_grad_batches": 2},
    "gradients accumulated over 3 batches, of 4": {"accumulate_grad_batches": 3},
    "clipping by norm and accumulation": {"gradient_clip_val": 0.1, "accumulate_grad_batches": 2},
    "several epochs": {"max_epochs": 3},
    "anomaly detection": {"detect_anomaly": True},
    "fast_dev_run": {"fast_dev_run": True},
    "deterministic": {"deterministic": True},
    "loaders made anew for each epoch": {"reload_dataloaders_every_n_epochs": 1, "max_epochs": 2},
    "max_steps in the middle of an epoch and of an accumulation": {"max_steps": 3, "accumulate_grad_batches": 3},
    "limit_train_batches": {"limit_train_batches": 2},
    "overfit_batches": {"overfit_batches": 2, "max_epochs": 2},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_trainer_setting(setting):
    # AdamW moves a weight without a gradient most: by its decay and by the moments of what it was.
    module = OwnModule(partial(optim.AdamW, lr=0.01, weight_decay=0.1))
    check_promise(subject(module), setting, trainer=trainer(**SETTINGS[setting]))


def test_barebones():
    bare = partial(pl.Trainer, barebones=True, accelerator="cpu", max_epochs=1)
    check_promise(subject(OwnModule()), "barebones", trainer=lambda *callbacks: bare(callbacks=list(callbacks)))


@pytest.mark.promise("Training loop", label="clipping by norm and accumulation, SGD momentum")
def test_clipping_and_accumulation_with_momentum():
    settings = SETTINGS["clipping by norm and accumulation"]
    check_promise(subject(OwnModule()), "clipping by norm and accumulation", trainer=trainer(**settings))


class Norms(OwnModule):
    """Records, where Lightning clips, all frozen gradients and the norm of all gradients after it."""

    def __init__(self):
        super().__init__(partial(optim.SGD, lr=0.1))
        self.frozen, self.after = [], []

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        owners, number = self.packnet.owners, len(self.packnet.tasks) + 1
        for name, parameter in self.backbone.named_parameters():
            if parameter.grad is not None:
                mine = owners[name] == number if name in owners else torch.zeros_like(parameter, dtype=torch.bool)
                self.frozen.append(parameter.grad[~mine].clone())
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        grads = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        self.after.append(nn.utils.get_total_norm(grads).item())


@pytest.mark.promise("Training loop", label="frozen weights do not count in the norm that is clipped")
def test_frozen_weights_do_not_count_in_the_norm():
    module = Norms()
    promise = Promise(subject(module), "clipping by norm")
    promise.fit("a", trainer=trainer(gradient_clip_val=1e-3))
    module.frozen.clear()
    module.after.clear()
    promise.fit("b", trainer=trainer(gradient_clip_val=1e-3))
    assert sum(grad.numel() for grad in module.frozen) > 0
    assert not any(grad.any() for grad in module.frozen)
    # All of the norm that clipping leaves belongs to what may move.
    assert module.after == pytest.approx([1e-3] * 8, rel=1e-3)


@pytest.mark.promise(None)
def test_frozen_weights_would_count_if_nobody_masked_them(monkeypatch):
    module = Norms()
    promise = Promise(subject(module), "clipping by norm")
    promise.fit("a", trainer=trainer(gradient_clip_val=1e-3))
    module.frozen.clear()
    monkeypatch.setattr(Freezer, "mask_gradients_", lambda _: None)
    promise.fit("b", trainer=trainer(gradient_clip_val=1e-3))
    assert any(grad.any() for grad in module.frozen)


def compiler():
    return shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


AS_COMPILED = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.mark.promise("Training loop", label="torch.compile with backend aot_eager")
@pytest.mark.parametrize("what", breadth(["the backbone", "the backbone in place", "the whole module"], "the backbone"))
@AS_COMPILED
def test_torch_compile(what):
    torch._dynamo.reset()
    compiled = torch.compile(ConvNet(), backend="aot_eager") if what == "the backbone" else ConvNet()
    module = OwnModule(backbone=compiled)
    if what == "the backbone in place":
        module.backbone.compile(backend="aot_eager")
    if what == "the whole module":
        module = torch.compile(module, backend="aot_eager")
    check_promise(subject(module), f"torch.compile of {what}", trainer=trainer(), tasks=("a", "b"))


class OneLayer(nn.Module):
    """As little as there can be to compile."""

    def __init__(self):
        super().__init__()
        self.fc, self.bn = nn.Linear(64, FEATURES), nn.BatchNorm1d(FEATURES)

    def forward(self, x):
        return self.bn(self.fc(x.flatten(1)))


@pytest.mark.promise("Training loop", label="torch.compile with its default backend: the backbone")
@pytest.mark.slow
@pytest.mark.skipif(not compiler(), reason="there is no C++ compiler")
@AS_COMPILED
def test_torch_compile_with_its_default_backend():
    torch._dynamo.reset()
    module = OwnModule(backbone=torch.compile(OneLayer(), dynamic=False))
    check_promise(subject(module), "torch.compile", trainer=trainer(), tasks=("a", "b"))


@pytest.mark.promise(
    "Training loop", status="refused", label="a finished task shown to code that has weights as constants (freezing)"
)
@AS_COMPILED
def test_torch_compile_with_freezing():
    module = OwnModule()
    Promise(subject(module), "freezing").fit("a", trainer=trainer())
    before = {name: bits(value) for name, value in module.state_dict().items()}
    module.backbone.compile(options={"freezing": True})
    with pytest.raises(RuntimeError, match="weights as constants"), module.packnet.subnetwork("a"):
        pass
    assert all(torch.equal(bits(value), before[name]) for name, value in module.state_dict().items())


@pytest.mark.promise("Training loop", label="pruned by whole filters")
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_whole_filters(scope):
    module = OwnModule()
    check_promise(subject(module), "pruning by filter", trainer=trainer(), granularity="filter", scope=scope)
    for owner in module.packnet.owners.values():
        rows = owner.reshape(len(owner), -1)
        assert (rows == rows[:, :1]).all()


@pytest.mark.promise("Training loop", label="channels_last from the start")
def test_channels_last():
    module = OwnModule().to(memory_format=torch.channels_last)
    check_promise(subject(module), "channels_last", trainer=trainer())
    assert module.backbone.conv2.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.promise("Training loop", label="channels_last from the second task on")
def test_channels_last_later():
    module = OwnModule()

    # The kernel for this layout may round differently, with the same weights: the bits of weights are compared, and
    # answers with those that the new layout gave first.
    promise = Promise(subject(module), "channels_last between tasks")
    promise.fit("a", trainer=trainer())
    module.to(memory_format=torch.channels_last)
    with module.packnet.subnetwork("a"):
        promise.remember_answers("a")
    promise.fit("b", trainer=trainer())
    promise.fit("c", trainer=trainer())
    module.packnet.verify()
    assert module.backbone.conv2.weight.is_contiguous(memory_format=torch.channels_last)


class Checkpointed(ConvNet):
    """Computes its lower half again in the backward pass."""

    def forward(self, x):
        return self.top(checkpoint(self.bottom, x, use_reentrant=self.reentrant))

    reentrant = False


class CheckpointedReentrant(Checkpointed):
    reentrant = True

    def forward(self, x):
        # The reentrant kind needs an input that requires a gradient.
        return super().forward(x.clone().requires_grad_())


@pytest.mark.promise("Training loop", label="gradient checkpointing")
@pytest.mark.parametrize("backbone", [Checkpointed, CheckpointedReentrant], ids=["not reentrant", "reentrant"])
def test_gradient_checkpointing(backbone):
    check_promise(subject(OwnModule(backbone=backbone())), "gradient checkpointing", trainer=trainer())


AVERAGING = {
    "WeightAveraging, exponential": lambda: WeightAveraging(avg_fn=get_ema_avg_fn(0.5)),
    "WeightAveraging, mean": WeightAveraging,
    "WeightAveraging, mean, without buffers": lambda: WeightAveraging(use_buffers=False),
    "EMAWeightAveraging": lambda: EMAWeightAveraging(decay=0.7),
    "StochasticWeightAveraging": lambda: StochasticWeightAveraging(swa_lrs=0.02, swa_epoch_start=1),
}


@pytest.mark.parametrize("averaging", AVERAGING)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_averaging(averaging):
    check_promise(
        subject(OwnModule(), data=WithValidation),
        averaging,
        trainer=trainer(AVERAGING[averaging], max_epochs=3, val_check_interval=2),
    )


@pytest.mark.promise("Training loop", label="a checkpoint of averaged weights has the finished task's bits")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_checkpoint_of_averaged_weights(tmp_path):
    module = OwnModule()
    promise = Promise(subject(module), "averaged weights in a checkpoint")
    promise.fit("a", trainer=trainer())
    averaging = WeightAveraging(avg_fn=get_ema_avg_fn(0.7))
    written = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=2, save_top_k=-1)
    fit_phase(module, "b", "train", 0.5, callbacks=[averaging, written], enable_checkpointing=True)
    for file in sorted(tmp_path.iterdir()):
        fresh = OwnModule()
        read = torch.load(file, weights_only=True)
        fresh.load_state_dict(read["state_dict"])
        fresh.packnet.load_state_dict(read["packnet"])
        promise.subject = subject(fresh)
        promise.check(after=f"b, at {file.name}")
        fresh.packnet.verify()


class Constant(WeightAveraging):
    """An "average" of which each number is 0.125: what is left of a task is easy to see."""

    def __init__(self):
        super().__init__(avg_fn=lambda average, *_: torch.full_like(average, 0.125))


@pytest.mark.promise("Training loop", label="the averaged weights are those that a task keeps: WeightAveraging")
@pytest.mark.parametrize("first", [True, False], ids=["listed before PackNetCallback", "listed after it"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_averaged_weights_are_those_that_a_task_keeps(first):
    module = OwnModule()
    promise = Promise(subject(module), "averaging")
    promise.fit("a", trainer=trainer())
    module.task = "b"
    callback = PackNetCallback(task="b", phase="train", private="heads.b", settled=lambda _: promise.remember("b"))
    quiet(*([Constant(), callback] if first else [callback, Constant()])).fit(module, loader("b"))
    for name, weight in owned_weights(module.packnet).items():
        assert (weight[module.packnet.owners[name] == 2] == 0.125).all()
    promise.check(after="b")
    module.packnet.verify(module)


class RecordsEpochs(OwnModule):
    """Records a weight at the start and at the end of each epoch."""

    starts, ends = (), ()

    def on_train_epoch_start(self):
        self.starts = (*self.starts, self.backbone.conv2.weight.detach().clone())

    def on_train_epoch_end(self):
        self.ends = (*self.ends, self.backbone.conv2.weight.detach().clone())


@pytest.mark.promise(
    "Training loop", label="the averaged weights are those that a task keeps: StochasticWeightAveraging"
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_stochastic_average_is_what_a_task_keeps():
    module = RecordsEpochs(partial(optim.SGD, lr=0.05))
    promise = Promise(subject(module), "StochasticWeightAveraging")
    promise.fit("a", trainer=trainer())
    module.task, module.starts, module.ends = "b", (), ()
    callback = PackNetCallback(task="b", phase="train", private="heads.b", settled=lambda _: promise.remember("b"))
    averaging = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=2)
    quiet(callback, averaging, max_epochs=3).fit(module, loader("b"))
    # Lightning averages what it finds when the second and the third epoch begin, and begins another epoch with that,
    # for the statistics of batch-norms; it makes one more step at the end of it.
    mine = module.packnet.owners["conv2.weight"] == 2
    starts, ends = ([weight[mine] for weight in weights] for weights in (module.starts, module.ends))
    assert torch.allclose(starts[3], (ends[0] + ends[1]) / 2, atol=1e-6)
    assert not torch.allclose(starts[3], ends[2], atol=1e-6)
    assert torch.equal(bits(module.backbone.conv2.weight[mine]), bits(ends[3]))
    promise.check(after="b")
    module.packnet.verify()


class UnfreezesLate(BaseFinetuning):
    """Trains the head alone at first, and then gives the optimizer all the rest."""

    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.backbone)

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.backbone, optimizer)


OTHER_CALLBACKS = {
    "BaseFinetuning, which unfreezes the backbone in the second epoch": UnfreezesLate,
    "GradientAccumulationScheduler": lambda: GradientAccumulationScheduler({0: 1, 1: 3}),
    "EarlyStopping": lambda: EarlyStopping("val_loss", patience=0, min_delta=1e9),
    "LearningRateFinder": lambda: LearningRateFinder(num_training_steps=6, update_attr=False),
    "BatchSizeFinder": lambda: BatchSizeFinder(max_trials=1, steps_per_trial=1, batch_arg_name="batch"),
}


@pytest.mark.promise("Training loop", label="Tuner.lr_find before each fit")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tuner(tmp_path):
    module = OwnModule(partial(optim.SGD, lr=0.05, momentum=0.9))
    promise = Promise(subject(module), "Tuner.lr_find")

    def tuned(*callbacks):
        used = quiet(*callbacks, default_root_dir=tmp_path)
        Tuner(used).lr_find(module, loader(module.task), num_training=4, update_attr=False)
        return used

    for task in ("a", "b"):
        module.task = task
        promise.fit(task, trainer=tuned)


class WithBatch(WithValidation):
    """What BatchSizeFinder changes; the data do not."""

    batch = 8


@pytest.mark.parametrize("callback", OTHER_CALLBACKS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_other_callback(callback, tmp_path):
    make = partial(optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01)
    module = OwnModule(lambda parameters: make([parameter for parameter in parameters if parameter.requires_grad]))
    settings = {"max_epochs": 3, "default_root_dir": tmp_path}
    make_trainer = trainer(OTHER_CALLBACKS[callback], **settings)
    check_promise(subject(module, data=WithBatch), callback, trainer=make_trainer, tasks=("a", "b"))


SCHEDULES = {
    "OneCycleLR": lambda optimizer: {
        "scheduler": optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=8),
        "interval": "step",
    },
    "ReduceLROnPlateau": lambda optimizer: {
        "scheduler": optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0),
        "monitor": "val_loss",
    },
}


class Scheduled(OwnModule):
    schedule = None

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return {"optimizer": optimizer, "lr_scheduler": SCHEDULES[self.schedule](optimizer)}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedule(schedule):
    module = Scheduled()
    module.schedule = schedule
    check_promise(subject(module, data=WithValidation), schedule, trainer=trainer(max_epochs=2))


class TrainsItself(OwnModule):
    """Puts all of itself into training mode, and wants gradients for all, in each step."""

    def training_step(self, batch, batch_idx):
        self.train()
        self.requires_grad_(True)
        return super().training_step(batch, batch_idx)


class EveryHead(OwnModule):
    """Trains every head in every step: those of finished tasks get gradients, and their statistics move."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.backbone(x)
        return sum(nn.functional.cross_entropy(head(features), y) for head in self.heads.values())


class AverageByHand(OwnModule):
    """Keeps an exponential average of all weights, and loads it when the fit ends."""

    def on_train_start(self):
        self.average = {name: value.detach().clone() for name, value in self.state_dict().items()}

    def on_train_batch_end(self, *_):
        for name, value in self.state_dict().items():
            if value.is_floating_point():
                self.average[name].mul_(0.7).add_(value, alpha=0.3)

    def on_train_end(self):
        self.load_state_dict(self.average)


class AverageByHandInData(AverageByHand):
    """The same, written where autograd does not see it, and after every batch."""

    def on_train_batch_end(self, *_):
        super().on_train_batch_end()
        for name, parameter in self.named_parameters():
            parameter.data.copy_(self.average[name])


class Clamps(OwnModule):
    def on_train_batch_end(self, *_):
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.clamp_(-0.05, 0.05)


class ClampsData(OwnModule):
    def on_train_batch_end(self, *_):
        for parameter in self.parameters():
            parameter.data = parameter.data.clamp(-0.05, 0.05)


class Noise(OwnModule):
    """Adds noise to all weights before the backward pass."""

    def on_before_backward(self, loss):
        for parameter in self.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.01)


HOOKS = {
    "exponential average kept by hand": AverageByHand,
    "exponential average kept by hand, written to .data after each batch": AverageByHandInData,
    "weights clamped after each batch": Clamps,
    "weights clamped after each batch, through .data": ClampsData,
    "noise added to weights before each backward pass": Noise,
    "the module calls train() and requires_grad_(True) in each step": TrainsItself,
    "heads of finished tasks are trained along": EveryHead,
}


@pytest.mark.parametrize("hook", HOOKS)
def test_module_hook(hook):
    # The module's own hook comes after those of all callbacks; what it wrote is put back before the next batch.
    free = {"free": "heads"} if HOOKS[hook] is EveryHead else {}  # those of tasks to come learn, too
    check_promise(subject(HOOKS[hook](), data=WithValidation), hook, trainer=trainer(max_epochs=2), **free)


@pytest.mark.promise(None)
def test_clamping_does_clamp_what_is_free():
    module = Clamps()
    fit_phase(module, "a", "train")
    assert all(weight.abs().max() <= 0.05 for weight in owned_weights(module.packnet).values())
    assert any(bits(weight).any() for weight in owned_weights(module.packnet).values())
