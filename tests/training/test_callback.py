"""PackNet in the fit of a LightningModule that knows nothing of it."""

import signal
from functools import partial
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, StochasticWeightAveraging, WeightAveraging
from pytorch_lightning.strategies import FSDPStrategy
from timm.optim import Lookahead
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from training_toys import (
    MOMENTUM,
    OwnModule,
    SmallNet,
    Spoiler,
    bits,
    fit_own,
    fit_phase,
    loader,
    own_head,
    picture,
    pictures,
    quiet,
    same,
    step_hooks,
    tensors,
    used_by,
    wanted,
)

import packnet_pl.training.callback as callback_module
import packnet_pl.training.private_modules as private_module
from packnet_pl import PackNet, PackNetCallback
from packnet_pl.core.freezing import Hold

OPTIMIZERS = {
    "SGD": partial(SGD, lr=0.1),
    "SGD momentum decay": MOMENTUM,
    "Adam": partial(Adam, lr=0.01),
    "AdamW decay": partial(AdamW, lr=0.01, weight_decay=0.1),
}


def answer(module, task, x):
    """Logits in eval mode. Modes are given back: Lightning trains a module in the modes that it finds."""
    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    with torch.no_grad():
        logits = module.heads[task](module.backbone(x))
    for layer, mode in modes:
        layer.training = mode
    return logits


@pytest.mark.parametrize("first", [True, False], ids=["averaging first", "averaging last"])
def test_what_is_pruned_and_finished_are_the_averaged_weights(first):
    class Zero(WeightAveraging):
        """An average of all zeros: what is left of the task is easy to see."""

        def __init__(self):
            super().__init__(avg_fn=lambda average, *_: torch.zeros_like(average))

    module = OwnModule()
    callback = PackNetCallback(task="a", phase="train", private="heads.a")
    quiet(*([Zero(), callback] if first else [callback, Zero()])).fit(module, loader())
    assert module.packnet.tasks == ["a"]
    assert not module.backbone.conv.weight.any()
    module.packnet.verify()


class AllHeads(OwnModule):
    """Trains every head in every step: earlier heads get gradients from later tasks."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.backbone(x)
        return sum(nn.functional.cross_entropy(head(features), y) for head in self.heads.values())


def test_private_heads_stand_still_even_if_later_tasks_run_them():
    module = AllHeads()
    fit_own(module, "a", free="heads")
    head = tensors(module.heads["a"])
    fit_own(module, "b", free="heads")
    assert same(tensors(module.heads["a"]), head)


def test_private_heads_move_if_nothing_holds_them(monkeypatch):
    monkeypatch.setattr(callback_module, "private_parameters", lambda *_: [])
    monkeypatch.setattr(private_module, "_modules", lambda *_: {})
    module = AllHeads()
    fit_own(module, "a", free="heads")
    head = tensors(module.heads["a"])
    fit_own(module, "b", ratio=None, free="heads")
    assert not any(torch.equal(value, head[name]) for name, value in tensors(module.heads["a"]).items())


# What a step sees.


class Norms(OwnModule):
    """Records, where Lightning clips, the norm of all gradients and of those that may move something."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        owners, number = self.packnet.owners, len(self.packnet.tasks) + 1
        frozen = [
            parameter.grad[owners[name] != number] if name in owners else parameter.grad
            for name, parameter in self.backbone.named_parameters()
            if parameter.grad is not None
        ]
        grads = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        before = nn.utils.get_total_norm(grads)
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self.seen.append((frozen, before, nn.utils.get_total_norm(grads)))


def test_frozen_gradients_are_exactly_zero_before_clipping():
    module = Norms(partial(SGD, lr=0.1))
    fit_own(module, "a", gradient_clip_val=1e-3)
    module.seen.clear()
    fit_own(module, "b", gradient_clip_val=1e-3)
    assert len(module.seen) == 2 * 4
    for frozen, before, after in module.seen:
        assert len(frozen) == 2
        assert not any(grad.any() for grad in frozen)
        assert before > 1e-3
        # All of the norm that clipping leaves belongs to what may move.
        assert after.item() == pytest.approx(1e-3, rel=1e-3)


def test_frozen_gradients_are_seen_before_clipping_if_nobody_masks_them(monkeypatch):
    monkeypatch.setattr(Hold, "mask_gradients_", lambda _: None)
    module = Norms(partial(SGD, lr=0.1))
    fit_own(module, "a", gradient_clip_val=1e-3)
    module.seen.clear()
    fit_own(module, "b", gradient_clip_val=1e-3)
    assert any(grad.any() for frozen, *_ in module.seen for grad in frozen)


class AfterSteps(pl.Callback):
    """Calls a function after every batch."""

    def __init__(self, look):
        self.look, self.calls = look, 0

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.calls += 1
        self.look(pl_module)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pruned_weights_are_exactly_zero_after_every_step_of_retraining(optimizer):
    def look(module):
        for name, owner in module.packnet.owners.items():
            released = bits(module.backbone.get_parameter(name))[owner == 0]
            assert len(released) > 0
            assert not released.any()

    module = OwnModule(OPTIMIZERS[optimizer])
    for task in ("a", "b"):
        fit_phase(module, task, "train", 0.5)
        watch = AfterSteps(look)
        fit_phase(module, task, "retrain", callbacks=[watch], max_epochs=2)
        assert watch.calls == 8


def test_the_frozen_set_needs_no_gradient_during_later_fits_and_does_so_again_afterwards():
    module = OwnModule()
    module.backbone.fc.bias.requires_grad_(False)
    before, during = wanted(module), []
    watch = AfterSteps(lambda fitted: during.append(wanted(fitted)))
    fit_own(module, "a", callbacks=[watch])
    assert all(seen == before for seen in during)
    during.clear()
    fit_own(module, "b", callbacks=[watch])
    frozen = {"backbone.conv.bias", "backbone.bn.weight", "backbone.bn.bias", "backbone.fc.bias"}
    frozen |= {name for name in before if name.startswith("heads.a.")}
    assert len(during) == 8
    for seen in during:
        assert {name for name, needed in seen.items() if not needed} == frozen
    assert wanted(module) == before


def test_settled_sees_the_module_as_it_will_answer_with_its_own_gradients():
    # By requires_grad torch chooses kernels, and other kernels round otherwise.
    module, seen = OwnModule(), []
    module.backbone.fc.bias.requires_grad_(False)
    before = wanted(module)
    for task in "ab":
        fit_own(module, task, settled=lambda fitted: seen.append(wanted(fitted)))
    assert seen == [before, before]


def test_gradients_stop_before_the_optimizer_is_made():
    class Asked(OwnModule):
        def configure_optimizers(self):
            self.asked = wanted(self)
            return super().configure_optimizers()

    module = Asked()
    fit_own(module, "a")
    fit_phase(module, "b", "train", 0.5)
    assert not module.asked["backbone.bn.weight"]
    assert not module.asked["heads.a.0.weight"]
    assert module.asked["heads.b.0.weight"]


def test_a_step_leaves_no_hooks_on_the_optimizer():
    module = OwnModule()
    trainer = fit_phase(module, "a", "train", 0.5)
    assert [step_hooks(optimizer) for optimizer in trainer.optimizers] == [0]


def lookahead(parameters):
    """An optimizer around another one, which never runs torch's constructor."""
    return Lookahead(MOMENTUM(parameters), k=2)


@pytest.mark.parametrize("optimizer", [MOMENTUM, lookahead], ids=["torch's", "another"])
def test_finished_tasks_are_restored_right_after_each_step_and_before_anybody_else_looks(optimizer):
    module = OwnModule(optimizer)
    fit_own(module, "a")
    finished = used_by(module.packnet, 1)
    seen = []

    class Looks(pl.Callback):
        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            seen.append(same(used_by(pl_module.packnet, 1), finished))

    module.task = "b"
    callback = PackNetCallback(task="b", phase="train", prune_ratio=0.5, private="heads.b")
    trainer = quiet(Looks(), callback, max_epochs=2)
    trainer.fit(module, loader())
    assert seen == [True] * 8
    assert same(used_by(module.packnet, 1), finished)
    assert "step" not in vars(trainer.optimizers[0])
    assert step_hooks(trainer.optimizers[0]) == 0


class Manual(OwnModule):
    """Steps by itself: one optimizer for the shared part and one for the heads, twice in a batch."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.after = []

    def configure_optimizers(self):
        return MOMENTUM(self.backbone.parameters()), MOMENTUM(self.heads.parameters())

    def training_step(self, batch, batch_idx):
        x, y = batch
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self(x), y)
        self.manual_backward(loss, retain_graph=True)
        heads, shared = reversed(self.optimizers())
        heads.step()
        shared.step()
        self.after.append(used_by(self.packnet, len(self.packnet.tasks)))


def test_under_manual_optimization_finished_tasks_are_restored_after_each_step():
    module = Manual()
    fit_own(module, "a")
    module.after.clear()
    finished = used_by(module.packnet, 1)
    fit_own(module, "b")
    assert len(module.after) == 8
    assert all(same(seen, finished) for seen in module.after)


class PastLightning(Manual):
    """Steps torch's optimizers themselves, of which Lightning sees nothing; records the gradients that are frozen."""

    def __init__(self):
        super().__init__()
        self.frozen = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.manual_backward(nn.functional.cross_entropy(self(x), y))
        owners, number = self.packnet.owners, len(self.packnet.tasks) + 1
        for name, owner in owners.items():
            self.frozen.append(self.backbone.get_parameter(name).grad[owner != number].clone())
        for optimizer in self.optimizers(use_pl_optimizer=False):
            optimizer.step()
            optimizer.zero_grad()
        self.after.append(used_by(self.packnet, len(self.packnet.tasks)))


def test_a_step_past_lightning_finds_masked_gradients_and_is_followed_by_a_restore():
    module = PastLightning()
    fit_own(module, "a")
    module.after.clear()
    module.frozen.clear()
    finished = used_by(module.packnet, 1)
    fit_own(module, "b")
    assert all(len(grad) for grad in module.frozen)
    assert not any(grad.any() for grad in module.frozen)
    assert len(module.after) == 8
    assert all(same(seen, finished) for seen in module.after)


class MovingCentre(nn.Module):
    """Writes to its buffers in each forward pass, in any mode, where autograd does not count it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("var", torch.ones(1))

    def forward(self, x):
        return nn.functional.batch_norm(x, self.mean, self.var, training=True)


def test_buffers_that_layers_write_to_are_put_back_after_each_batch():
    module = OwnModule()
    module.backbone.conv = nn.Sequential(MovingCentre(), module.backbone.conv)
    fit_own(module, "a")
    before, seen = tensors(module.backbone.conv[0]), []
    assert before["mean"].any()
    module.task = "b"
    callback = PackNetCallback(task="b", phase="train", prune_ratio=0.5, private="heads.b")
    watch = AfterSteps(lambda fitted: seen.append(same(tensors(fitted.backbone.conv[0]), before)))
    with pytest.warns(UserWarning, match="is a buffer that its layer changes") as caught:
        quiet(callback, watch).fit(module, loader())
    told = [str(warning.message) for warning in caught if "is a buffer that" in str(warning.message)]
    assert [text.split()[0] for text in told] == ["conv.0.mean"]
    assert seen == [True] * 4


def test_the_module_keeps_its_names_hooks_and_modules():
    module = OwnModule()
    keys, names = list(module.state_dict()), [name for name, _ in module.named_modules()]
    fit_own(module, "a")
    fit_own(module, "b")
    assert list(module.state_dict()) == keys
    assert [name for name, _ in module.named_modules()] == names
    for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
        assert not any(getattr(layer, kind) for layer in module.modules())


# When a task is pruned and finished.


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.75])
def test_train_prunes_exactly_the_rounded_share_of_each_layer_and_retrain_finishes(ratio):
    module = OwnModule()
    fit_phase(module, "a", "train", ratio)
    assert (module.packnet.open_task, module.packnet.phase, module.packnet.tasks) == ("a", "retrain", [])
    layers = module.packnet.summary().layers
    assert {name: share.free for name, share in layers.items()} == {
        "conv.weight": round(ratio * 36),
        "fc.weight": round(ratio * 96),
    }
    fit_phase(module, "a", "retrain")
    assert (module.packnet.open_task, module.packnet.phase, module.packnet.tasks) == (None, None, ["a"])
    assert {name: share.free for name, share in module.packnet.summary().layers.items()} == {
        "conv.weight": round(ratio * 36),
        "fc.weight": round(ratio * 96),
    }


def test_scope_global_ranks_all_layers_together():
    module = OwnModule()
    with torch.no_grad():
        module.backbone.conv.weight.mul_(1000)
    fit_phase(module, "a", "train", 0.5, own={"scope": "global"}, max_epochs=0)
    layers = module.packnet.summary().layers
    assert {name: share.free for name, share in layers.items()} == {"conv.weight": 0, "fc.weight": 66}


def test_granularity_filter_releases_whole_output_channels():
    module = OwnModule()
    fit_phase(module, "a", "train", 0.5, own={"granularity": "filter"}, max_epochs=0)
    for owner in module.packnet.owners.values():
        assert sorted(set(owner.reshape(len(owner), -1).sum(1).tolist())) == [0, owner[0].numel()]
    layers = module.packnet.summary().layers
    assert {name: share.free for name, share in layers.items()} == {"conv.weight": 18, "fc.weight": 48}


def test_filters_that_belong_to_several_tasks_are_refused_before_anything_is_trained():
    module = OwnModule()
    fit_phase(module, "a", "train", 0.5)
    fit_phase(module, "a", "retrain")
    module.task = "b"
    before = picture(module)
    with pytest.raises(ValueError, match="belongs to several tasks, as earlier ones were pruned weight by weight"):
        fit_phase(module, "b", "train", 0.5, own={"granularity": "filter"})
    assert picture(module) == before
    # What is not pruned need not be whole.
    fit_phase(module, "b", "train", None, own={"granularity": "filter"})
    assert module.packnet.tasks == ["a", "b"]


def test_without_a_ratio_train_finishes_the_task_and_frees_nothing():
    module = OwnModule()
    fit_phase(module, "a", "train", None)
    assert module.packnet.tasks == ["a"]
    assert module.packnet.summary().total.free == 0


def test_weights_are_settled_before_they_are_pruned():
    module, free = OwnModule(), []
    fit_phase(module, "a", "train", 0.5, own={"settled": lambda m: free.append(m.packnet.summary().total.free)})
    assert free == [0]


@pytest.mark.parametrize("phase", ["train", "retrain"])
@pytest.mark.parametrize(
    "limits",
    [
        {"max_epochs": 0},
        {"max_steps": 1},
        {"max_epochs": 5, "max_time": {"seconds": 0}},
        {
            "max_epochs": 5,
            "limit_train_batches": 1,
            "callbacks": [Spoiler(lambda t, _: setattr(t, "should_stop", True))],
        },
        {"max_epochs": 5, "callbacks": [Spoiler(lambda t, _: setattr(t, "should_stop", True), batch=0)]},
    ],
    ids=["no epoch", "max_steps", "max_time", "limit_train_batches", "should_stop"],
)
def test_a_fit_that_ends_early_ends_its_phase_too(phase, limits):
    module = OwnModule()
    if phase == "retrain":
        fit_phase(module, "a", "train", 0.5)
    fit_phase(module, "a", phase, 0.5 if phase == "train" else None, **limits)
    if phase == "train":
        assert (module.packnet.phase, module.packnet.summary().total.free) == ("retrain", 18 + 48)
    else:
        assert module.packnet.tasks == ["a"]


def test_early_stopping_ends_the_phase():
    module = OwnModule()
    module.val_scores = [0.5, 0.4, 0.3, 0.2, 0.1]
    stop = EarlyStopping("val_accuracy", mode="max", patience=1)
    callback = PackNetCallback(task="a", phase="train", prune_ratio=0.5, private="heads.a")
    trainer = quiet(callback, stop, max_epochs=5)
    trainer.fit(module, loader(), loader())
    assert trainer.current_epoch < 5
    assert module.packnet.phase == "retrain"


class TroubleError(Exception):
    pass


def raise_trouble(*_):
    raise TroubleError("out of cheese")


def press_ctrl_c(*_):
    raise KeyboardInterrupt


@pytest.fixture
def _sigint():
    """Lightning ignores the signal from Ctrl-C on."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("_sigint")
@pytest.mark.parametrize("phase", ["train", "retrain"])
@pytest.mark.parametrize(
    ("action", "expected"), [(raise_trouble, TroubleError), (press_ctrl_c, SystemExit)], ids=["exception", "Ctrl-C"]
)
def test_an_interrupted_fit_neither_prunes_nor_finishes_and_can_be_done_again(phase, action, expected):
    class Stopped(OwnModule):
        interrupt = False

        def training_step(self, batch, batch_idx):
            if self.interrupt and batch_idx == 2:
                self.interrupt = False
                action()
            return super().training_step(batch, batch_idx)

    module = Stopped()
    fit_own(module, "a")
    finished, head, needed = used_by(module.packnet, 1), tensors(module.heads["a"]), wanted(module)
    if phase == "retrain":
        fit_phase(module, "b", "train", 0.5)
    free = module.packnet.summary().total.free
    module.interrupt, module.task = True, "b"
    ratio = 0.5 if phase == "train" else None
    trainer = quiet(PackNetCallback(task="b", phase=phase, prune_ratio=ratio, private="heads.b"))
    with pytest.raises(expected):
        trainer.fit(module, loader())
    assert (module.packnet.open_task, module.packnet.phase, module.packnet.tasks) == ("b", phase, ["a"])
    assert module.packnet.summary().total.free == (0 if phase == "train" else free)
    assert [step_hooks(optimizer) for optimizer in trainer.optimizers] == [0]
    assert wanted(module) == needed
    fit_own(module, "b")
    assert module.packnet.tasks == ["a", "b"]
    assert same(used_by(module.packnet, 1), finished)
    assert same(tensors(module.heads["a"]), head)


class Interrupted(Optimizer):
    """Decays weights, and is interrupted between the change of the weights and the end of the step."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    def step(self, closure=None):
        loss = closure()
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter.mul_(0.9)
        press_ctrl_c()
        return loss


@pytest.mark.usefixtures("_sigint")
def test_an_interrupt_in_the_middle_of_a_step_leaves_finished_tasks_alone():
    module = OwnModule()
    fit_own(module, "a")
    finished, head = used_by(module.packnet, 1), tensors(module.heads["a"])
    module.make_optimizer = Interrupted
    with pytest.raises(SystemExit):
        fit_phase(module, "b", "train", 0.5)
    module.packnet.verify()
    module.make_optimizer = MOMENTUM
    fit_own(module, "b")
    assert same(used_by(module.packnet, 1), finished)
    assert same(tensors(module.heads["a"]), head)
    module.packnet.verify()


def test_an_exception_in_settled_leaves_the_task_open_and_no_trace():
    module = OwnModule()
    fit_own(module, "a")
    needed = wanted(module)
    with pytest.raises(TroubleError, match="out of cheese"):
        fit_phase(module, "b", "train", 0.5, own={"settled": raise_trouble})
    assert (module.packnet.open_task, module.packnet.phase) == ("b", "train")
    assert wanted(module) == needed
    fit_own(module, "b")
    assert module.packnet.tasks == ["a", "b"]


class Late(pl.Callback):
    def on_fit_end(self, trainer, pl_module):
        raise_trouble()


@pytest.mark.parametrize("phase", ["train", "retrain"])
def test_an_exception_after_the_phase_ended_is_seen_as_it_is_and_the_phase_stays_ended(phase):
    module = OwnModule()
    fit_own(module, "a")
    needed = wanted(module)
    if phase == "retrain":
        fit_phase(module, "b", "train", 0.5)
    with pytest.raises(TroubleError, match="out of cheese"):
        fit_phase(module, "b", phase, 0.5 if phase == "train" else None, callbacks=[Late()])
    assert module.packnet.phase == ("retrain" if phase == "train" else None)
    assert module.packnet.tasks == (["a"] if phase == "train" else ["a", "b"])
    assert wanted(module) == needed
    module.packnet.verify()


# Validation and test.


def test_validation_during_the_fit_changes_nothing_that_is_held():
    module = OwnModule()
    fit_own(module, "a")
    finished = used_by(module.packnet, 1)
    module.task = "b"
    callback = PackNetCallback(task="b", phase="train", prune_ratio=0.5, private="heads.b")
    quiet(callback, max_epochs=2, num_sanity_val_steps=2).fit(module, loader(), loader(3))
    assert module.packnet.phase == "retrain"
    assert same(used_by(module.packnet, 1), finished)


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_other_verbs_with_the_callback_change_nothing(verb):
    module = OwnModule()
    fit_own(module, "a")
    fit_phase(module, "b", "train", 0.5)
    module.predict_step = lambda batch, batch_idx: module(batch[0])
    before = picture(module)
    for phase in ("train", "retrain"):
        getattr(quiet(PackNetCallback(task="b", phase=phase)), verb)(module, loader())
    assert picture(module) == before


def test_what_is_owned_and_free_is_logged():
    module = OwnModule()
    trainer = fit_phase(module, "a", "train", 0.5)
    assert trainer.callback_metrics["packnet/owned"] == 1
    trainer = fit_phase(module, "a", "retrain")
    assert trainer.callback_metrics["packnet/owned"] == 0.5
    assert trainer.callback_metrics["packnet/free"] == 0.5


# What is refused.


def refused(module, match, *callbacks, **kwargs):
    before = picture(module)
    with pytest.raises(ValueError, match=match):
        quiet(*callbacks, **kwargs).fit(module, loader())
    assert picture(module) == before


def test_a_module_without_packnet_is_told_the_line_to_add():
    class Bare(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Linear(2, 2)

        def training_step(self, batch, batch_idx):
            pytest.fail("it was fitted")

        def configure_optimizers(self):
            return SGD(self.parameters())

    with pytest.raises(ValueError, match=r"Bare has no PackNet .*self\.packnet = PackNet\(self\.backbone\)"):
        quiet(PackNetCallback(task="a", phase="train")).fit(Bare(), loader())


def test_two_callbacks_in_one_trainer_are_refused():
    first, second = (PackNetCallback(task=task, phase="train") for task in "ab")
    with pytest.raises((RuntimeError, ValueError), match="PackNetCallback"):
        quiet(first, second)
    module, trainer = OwnModule(), quiet(first)
    before = picture(module)
    trainer.callbacks.append(second)
    with pytest.raises(ValueError, match="2 PackNetCallbacks in one Trainer"):
        trainer.fit(module, loader())
    assert picture(module) == before


@pytest.mark.parametrize("phase", ["train", "retrain"])
def test_a_finished_task_is_refused(phase):
    module = OwnModule()
    fit_own(module, "a")
    refused(module, r"task='a', phase='\w+'\): that task is finished", PackNetCallback(task="a", phase=phase))


def test_another_task_than_the_open_one_is_refused():
    module = OwnModule()
    fit_phase(module, "a", "train", 0.5)
    refused(module, "task='b', phase='train'.*'a' is open", PackNetCallback(task="b", phase="train"))


def test_retraining_a_task_that_was_not_trained_is_refused():
    refused(
        OwnModule(),
        "phase='retrain'.*not open: fit it in phase 'train' first",
        PackNetCallback(task="a", phase="retrain"),
    )


def test_training_a_task_again_that_was_pruned_is_refused():
    module = OwnModule()
    fit_phase(module, "a", "train", 0.5)
    refused(module, "phase='train'.*the task is in phase 'retrain'", PackNetCallback(task="a", phase="train"))


@pytest.mark.parametrize("private", ["heads.z", ["heads.a", "heads.z"], "nothing"])
def test_a_wrong_private_name_is_refused(private):
    name = private if isinstance(private, str) else private[-1]
    refused(
        OwnModule(),
        f"private='{name}': OwnModule has no such module",
        PackNetCallback(task="a", phase="train", private=private),
    )


def test_a_network_without_free_weights_is_refused():
    module = OwnModule()
    fit_phase(module, "a", "train", None)
    before = picture(module)
    with pytest.raises(RuntimeError, match="no weight is free"):
        fit_phase(module, "b", "train", 0.5)
    assert picture(module) == before


def test_weights_changed_from_outside_are_noticed_before_the_next_task():
    module = OwnModule()
    fit_own(module, "a")
    with torch.no_grad():
        module.backbone.bn.weight.add_(1)
    with pytest.raises(RuntimeError, match=r"bn\.weight is not what it was when task 'a' was finished"):
        fit_own(module, "b")
    assert module.packnet.open_task is None


def test_a_private_module_changed_from_outside_is_noticed_before_the_next_task():
    module = OwnModule()
    fit_own(module, "a")
    with torch.no_grad():
        module.heads["a"][1].running_mean.add_(1)
    with pytest.raises(RuntimeError, match=r"heads\.a\.1\.running_mean is not what it was when task 'a' was finished"):
        fit_own(module, "b")
    assert module.packnet.open_task is None


@pytest.mark.parametrize("name", ["backbone.fc.weight", "backbone.bn.running_var", "heads.a.0.bias"])
def test_a_change_between_the_phases_of_a_later_task_is_noticed_before_it_is_held(name):
    module = OwnModule()
    fit_own(module, "a")
    fit_phase(module, "b", "train", 0.5)
    with torch.no_grad():
        module.state_dict()[name].add_(1)
    callback = PackNetCallback(task="b", phase="retrain")
    with pytest.raises(RuntimeError, match=rf"{name.removeprefix('backbone.')} is not what it was when task 'a' was"):
        quiet(callback).fit(module, loader())
    assert (module.packnet.open_task, module.packnet.phase) == ("b", "retrain")


def test_a_shared_module_that_another_one_replaced_is_refused():
    module = OwnModule()
    module.backbone = SmallNet()
    callback = PackNetCallback(task="a", phase="train")
    refused(module, "the SmallNet that packnet was made for is no part of OwnModule", callback)


def test_a_strategy_that_cuts_parameters_is_refused():
    # It cannot be made without several devices; only what the callback asks for is there.
    module, callback = OwnModule(), PackNetCallback(task="a", phase="train")
    trainer = SimpleNamespace(callbacks=[callback], strategy=object.__new__(FSDPStrategy))
    before = picture(module)
    with pytest.raises(ValueError, match="strategy FSDPStrategy cuts parameters into shards"):
        callback.setup(trainer, module, "fit")
    assert picture(module) == before


def test_a_private_module_inside_the_shared_one_is_refused():
    callback = PackNetCallback(task="a", phase="train", private="backbone.fc")
    refused(OwnModule(), r"private='backbone\.fc' lies inside the shared module \(SmallNet\)", callback)


def test_other_private_modules_in_the_second_phase_are_refused():
    module = OwnModule()
    fit_phase(module, "a", "train", 0.5)
    callback = PackNetCallback(task="a", phase="retrain", private=["heads.a", "heads.b"])
    refused(module, r"was begun with private=\['heads\.a'\]; give the same in both phases", callback)


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_a_precision_that_converts_finished_tasks_is_refused(precision):
    module = OwnModule()
    fit_own(module, "a")
    callback = PackNetCallback(task="b", phase="train", private="heads.b")
    before = tensors(module)
    match = rf"precision='{precision}' would convert the weights of \['a'\] from torch\.float32 \(conv\.weight\)"
    with pytest.raises(ValueError, match=match):
        quiet(callback, precision=precision).fit(module, loader())
    assert same(tensors(module), before)
    assert module.packnet.open_task is None


def test_a_module_that_builds_its_layers_late_is_fitted_as_any_other():
    class BuildsLate(OwnModule):
        def __init__(self):
            pl.LightningModule.__init__(self)
            self.packnet, self.task, self.make_optimizer, self.val_scores = None, "a", MOMENTUM, []

        def configure_model(self):
            if self.packnet is None:
                self.backbone = SmallNet()
                self.heads = nn.ModuleDict({task: own_head() for task in "ab"})
                self.packnet = PackNet(self.backbone)

    module = BuildsLate()
    fit_phase(module, "a", "train", 0.5)
    fit_phase(module, "a", "retrain")
    finished = used_by(module.packnet, 1)
    fit_own(module, "b")
    assert module.packnet.tasks == ["a", "b"]
    assert same(used_by(module.packnet, 1), finished)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"phase": "retrain", "prune_ratio": 0.5}, "prune_ratio=0.5 was given for phase 'retrain'"),
        ({"phase": "retrain", "prune_ratio": 0.0}, "prune_ratio=0.0 was given for phase 'retrain'"),
        ({"prune_ratio": 75}, r"prune ratio is 75;.*for 75 percent write 0\.75"),
        ({"prune_ratio": 1.0}, r"prune ratio is 1\.0"),
        ({"prune_ratio": -0.1}, r"prune ratio is -0\.1"),
        ({"prune_ratio": float("nan")}, "prune ratio is nan"),
        ({"prune_ratio": True}, "prune ratio is True"),
        ({"prune_ratio": [0.5]}, r"prune ratio is \[0\.5\]"),
        ({"phase": "prune"}, "phase is 'prune'; allowed are 'train' and 'retrain'"),
        ({"select": "first"}, "select is 'first'; allowed are 'last' and 'best'"),
        ({"select": "best", "mode": "up"}, "mode is 'up'; allowed are 'max' and 'min'"),
        ({"mode": "min"}, "monitor='val_accuracy' and mode='min' choose the best epoch: give select='best'"),
        ({"monitor": "f1"}, "monitor='f1' and mode=None choose the best epoch: give select='best'"),
        ({"scope": "network"}, "prune scope is 'network'"),
        ({"granularity": "row"}, "prune granularity is 'row'"),
        ({"task": "a/b"}, "task name is 'a/b'"),
        ({"task": ""}, "task name is ''"),
    ],
)
def test_bad_arguments_are_refused(wrong, match):
    with pytest.raises(ValueError, match=match):
        PackNetCallback(**{"task": "a", "phase": "train", **wrong})


# The best epoch.


@pytest.mark.parametrize(("mode", "best"), [("max", 1), ("min", 2)])
def test_select_best_prunes_the_best_epochs_weights(mode, best):
    module = OwnModule()
    module.val_scores = [0.3, 0.9, 0.1, 0.9]
    epochs, final = [], []
    look = lambda m: final.append(tensors(m))  # noqa: E731
    callback = PackNetCallback(
        task="a", phase="train", prune_ratio=0.5, private="heads.a", select="best", mode=mode, settled=look
    )
    quiet(callback, Epochs(epochs), max_epochs=4, num_sanity_val_steps=1).fit(module, loader(), loader())
    assert len(epochs) == 4
    assert same(final[0], epochs[best])
    assert not same(final[0], epochs[3])
    # The pruned weights are those of that epoch too.
    kept = module.packnet.owners["conv.weight"] != 0
    assert torch.equal(bits(module.backbone.conv.weight)[kept], epochs[best]["backbone.conv.weight"][kept])


class Epochs(pl.Callback):
    """Keeps the weights of every epoch, as validation saw them."""

    def __init__(self, seen):
        self.seen = seen

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.seen.append(tensors(pl_module))


def test_select_best_keeps_frozen_weights_and_pruned_zeros_in_retraining():
    module = OwnModule()
    fit_own(module, "a")
    finished = used_by(module.packnet, 1)
    fit_phase(module, "b", "train", 0.5)
    module.val_scores = [0.5, 0.1]
    callback = PackNetCallback(task="b", phase="retrain", private="heads.b", select="best")
    quiet(callback, max_epochs=2).fit(module, loader(), loader())
    assert module.packnet.tasks == ["a", "b"]
    assert same(used_by(module.packnet, 1), finished)
    for name, owner in module.packnet.owners.items():
        assert not bits(module.backbone.get_parameter(name))[owner == 0].any()


@pytest.mark.parametrize("averaging", [WeightAveraging, lambda: StochasticWeightAveraging(0.01)])
def test_select_best_with_averaging_is_refused(averaging):
    # Averaging swaps its weights out again before the score of the epoch is known, and in again at the end.
    module = OwnModule()
    before = tensors(module)
    callback = PackNetCallback(task="a", phase="train", private="heads.a", select="best")
    with pytest.raises(ValueError, match="select='best' with an averaging callback"):
        quiet(averaging(), callback, max_epochs=2).fit(module, loader(), loader())
    assert module.packnet.open_task is None
    assert same(tensors(module), before)


def test_select_best_without_the_metric_is_refused_by_its_name():
    module = OwnModule()
    callback = PackNetCallback(task="a", phase="train", private="heads.a", select="best", monitor="val_f1")
    with pytest.raises(ValueError, match=r"select='best' needs the metric 'val_f1'; validation logged.*val_accuracy"):
        quiet(callback).fit(module, loader(), loader())


# Checkpoints.


def every_epoch(folder):
    return ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1, save_last=True)


def test_a_checkpoint_holds_the_state_and_loads_with_weights_only(tmp_path):
    module = OwnModule()
    fit_own(module, "a")
    fit_phase(module, "b", "train", 0.5, callbacks=[every_epoch(tmp_path)], enable_checkpointing=True)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["packnet"]["tasks"] == ["a"]
    assert checkpoint["packnet"]["open_task"] == "b"
    assert checkpoint["packnet"]["phase"] == "train"
    assert checkpoint["packnet"]["private"] == {"a": ["heads.a"], "b": ["heads.b"]}
    assert list(checkpoint["packnet"]["private_fingerprints"]) == ["a"]
    assert set(checkpoint["packnet"]["private_fingerprints"]["a"]) == {
        f"heads.a.{name}" for name in module.heads["a"].state_dict()
    }


def test_a_checkpoint_of_the_best_epoch_loads_with_weights_only(tmp_path):
    module = OwnModule()
    callback = PackNetCallback(task="a", phase="train", private="heads.a", select="best")
    quiet(callback, every_epoch(tmp_path), enable_checkpointing=True).fit(module, loader(), loader())
    callbacks = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]
    assert any("best" in state for state in callbacks.values())


def test_a_module_loaded_in_another_process_goes_on_with_from_checkpoint(tmp_path):
    module = OwnModule()
    fit_own(module, "a")
    probe, expected, head = pictures(), [], tensors(module.heads["a"])
    with module.packnet.subnetwork("a"):
        expected = answer(module, "a", probe)
    fit_phase(module, "b", "train", 0.5, callbacks=[every_epoch(tmp_path)], enable_checkpointing=True)

    fresh = OwnModule.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    fresh.packnet = PackNet.from_checkpoint(fresh.backbone, tmp_path / "last.ckpt")
    assert (fresh.packnet.tasks, fresh.packnet.open_task, fresh.packnet.phase) == (["a"], "b", "train")
    fit_own(fresh, "b")
    fit_own(fresh, "c")
    with fresh.packnet.subnetwork("a"):
        assert torch.equal(bits(answer(fresh, "a", probe)), bits(expected))
    assert same(tensors(fresh.heads["a"]), head)


@pytest.mark.parametrize("phase", ["train", "retrain"])
@pytest.mark.parametrize("task", ["a", "b"])
def test_a_resumed_fit_ends_bit_identical(tmp_path, task, phase):
    module = OwnModule(dropout=0)
    if task == "b":
        fit_own(module, "a")
    if phase == "retrain":
        fit_phase(module, task, "train", 0.5)
    ratio = 0.5 if phase == "train" else None
    settings = {"enable_checkpointing": True, "max_epochs": 4}
    fit_phase(module, task, phase, ratio, callbacks=[every_epoch(tmp_path)], **settings)

    torch.manual_seed(12345)
    fresh = OwnModule(dropout=0)
    assert not same(tensors(fresh), tensors(module))
    trainer = fit_phase(fresh, task, phase, ratio, ckpt_path=tmp_path / "epoch=1.ckpt", max_epochs=4)
    assert trainer.global_step == 16
    left, right = module.packnet.state_dict(), fresh.packnet.state_dict()
    assert {**left, "owners": None} == {**right, "owners": None}
    assert left["phase"] == ("retrain" if phase == "train" else None)
    assert same(left["owners"], right["owners"])
    assert same(tensors(fresh), tensors(module))
    assert wanted(fresh) == wanted(module)


def test_a_resume_with_no_step_left_prunes(tmp_path):
    module = OwnModule(dropout=0)
    fit_phase(module, "a", "train", 0.5, callbacks=[every_epoch(tmp_path)], enable_checkpointing=True, max_epochs=2)
    fresh = OwnModule(dropout=0)
    fit_phase(fresh, "a", "train", 0.5, ckpt_path=tmp_path / "last.ckpt", max_epochs=2)
    assert fresh.packnet.phase == "retrain"
    assert same(tensors(fresh), tensors(module))


def test_a_resume_remembers_the_best_epoch_before_it(tmp_path):
    def fit(module, ckpt_path=None):
        module.val_scores = [0.9, 0.2, 0.3]
        final = []
        own = {"private": "heads.a", "settled": lambda m: final.append(tensors(m))}
        callback = PackNetCallback(task="a", phase="train", prune_ratio=0.5, select="best", **own)
        checkpoints = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
        trainer = quiet(callback, checkpoints, max_epochs=3, enable_checkpointing=True)
        trainer.fit(module, loader(), loader(), ckpt_path=ckpt_path)
        return final[0]

    expected = fit(OwnModule(dropout=0))
    assert same(fit(OwnModule(dropout=0), ckpt_path=tmp_path / "epoch=1.ckpt"), expected)


@pytest.mark.parametrize(
    ("task", "phase", "match"),
    [
        ("a", "train", "that task is finished"),
        ("c", "train", "'b' is open"),
        ("b", "retrain", "the task is in phase 'train'"),
    ],
)
def test_a_resume_with_a_checkpoint_of_something_else_is_refused(tmp_path, task, phase, match):
    module = OwnModule()
    fit_own(module, "a")
    fit_phase(module, "b", "train", 0.5, callbacks=[every_epoch(tmp_path)], enable_checkpointing=True)
    with pytest.raises(ValueError, match=match):
        fit_phase(OwnModule(), task, phase, ckpt_path=tmp_path / "last.ckpt", max_epochs=3)


def test_a_checkpoint_without_packnet_is_refused(tmp_path):
    module = OwnModule()
    quiet(every_epoch(tmp_path), enable_checkpointing=True).fit(module, loader())
    with pytest.raises(ValueError, match="the checkpoint holds no PackNet state"):
        fit_phase(OwnModule(), "a", "train", ckpt_path=tmp_path / "last.ckpt", max_epochs=3)
    with pytest.raises(ValueError, match="holds no PackNet state"):
        PackNet.from_checkpoint(OwnModule().backbone, tmp_path / "last.ckpt")
