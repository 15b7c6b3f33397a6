"""Nothing is forgotten, whatever happens in the middle of a fit or between two."""

import copy
import pickle
import signal
from contextlib import contextmanager
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import optim

from packnet_pl import PackNet, PackNetCallback, TaskClassifier
from packnet_pl.training import Recipe
from tests.support.promise.checker import Promise, Subject, bits, check_promise
from tests.support.promise.own_modules import (
    FEATURES,
    MOMENTUM,
    ConvNet,
    OwnModule,
    WithValidation,
    fit_phase,
    images,
    loader,
    quiet,
    subject,
    trainer,
)

pytestmark = pytest.mark.promise("In the middle")


def read(file):
    """A fresh module with the weights and the state of a checkpoint."""
    fresh, found = OwnModule(), torch.load(file, weights_only=True)
    fresh.load_state_dict(found["state_dict"])
    fresh.packnet.load_state_dict(found["packnet"])
    return fresh


class ChecksCheckpoints(pl.Callback):
    """Reads each checkpoint that was written so far in a fit, at its end."""

    def __init__(self, promise, folder):
        self.promise, self.folder, self.files = promise, folder, 0

    def on_fit_end(self, trainer, pl_module):
        for file in sorted(self.folder.iterdir()):
            fresh = read(file)
            promise = Promise(subject(fresh), f"{self.promise.setting}, read from {file.name}")
            promise.finished = {task: self.promise.finished[task] for task in fresh.packnet.tasks}
            promise.check(after=pl_module.task)
            fresh.packnet.verify()
            self.files += bool(promise.finished)


VALIDATION = {
    "validation after every 2 batches, with checkpoints": {"val_check_interval": 2},
    "validation after half an epoch, with checkpoints": {"val_check_interval": 0.5},
    "sanity validation": {"num_sanity_val_steps": 2},
    "sanity validation and validation in the middle": {"num_sanity_val_steps": 2, "val_check_interval": 2},
}


@pytest.mark.parametrize("setting", VALIDATION)
def test_validation_with_checkpoints(setting, tmp_path):
    promise = Promise(subject(OwnModule(), data=WithValidation), setting)
    for number, task in enumerate(("a", "b", "c")):
        checks = ChecksCheckpoints(promise, tmp_path / str(number))

        def make(*callbacks, checks=checks):
            written = ModelCheckpoint(checks.folder, filename="{epoch} {step}", save_top_k=-1)
            settings = {"max_epochs": 2, "enable_checkpointing": True, **VALIDATION[setting]}
            return quiet(*callbacks, checks, written, **settings)

        promise.fit(task, trainer=make)
        assert checks.files >= 4 or task == "a"


class AsksInTheMiddle(pl.Callback):
    """Asks all finished tasks in several places of a fit."""

    def __init__(self, promise, *hooks):
        self.promise, self.asked = promise, 0
        for hook in hooks:
            setattr(self, hook, self.look)

    def look(self, trainer, pl_module, *_):
        if not self.promise.finished:
            return
        task = pl_module.task
        self.promise.check(after=f"{task}, which is being trained")
        pl_module.task = task
        self.asked += 1


PLACES = {
    "finished tasks asked between two epochs": "on_train_epoch_end",
    "finished tasks asked when an epoch begins": "on_train_epoch_start",
    "finished tasks asked after every batch": "on_train_batch_end",
    "finished tasks asked before every batch": "on_train_batch_start",
    "finished tasks asked between backward pass and step": "on_before_optimizer_step",
    "finished tasks asked in validation": "on_validation_batch_end",
    "finished tasks asked when validation begins": "on_validation_start",
}


@pytest.mark.parametrize("place", PLACES)
def test_finished_tasks_are_asked_in_the_middle(place):
    promise = Promise(subject(OwnModule(), data=WithValidation), place)
    for task in ("a", "b", "c"):
        looks = AsksInTheMiddle(promise, PLACES[place])
        promise.fit(task, trainer=trainer(lambda looks=looks: looks))
        assert looks.asked >= 2 or task == "a"


class AsksInSteps(OwnModule):
    """Asks the first task in its own steps, as a distillation loss does."""

    where = ()

    def old(self, x):
        if "a" not in self.packnet.tasks:
            return []
        with self.packnet.subnetwork("a"), torch.no_grad():
            return [bits(self.heads["a"].eval()(self.backbone(x)))]

    def training_step(self, batch, batch_idx):
        self.answers = [*self.answers, *(self.old(images(1)) if "training" in self.where else [])]
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.answers = [*self.answers, *(self.old(images(1)) if "validation" in self.where else [])]
        return super().validation_step(batch, batch_idx)

    answers = ()


@pytest.mark.promise("In the middle", label="the first task asked in the module's own step")
@pytest.mark.parametrize("where", ["training", "validation"])
def test_a_task_is_asked_in_steps(where):
    # The head is put in eval mode by its user, the shared part is not: it stays in training mode around the question.
    module = AsksInSteps()
    module.backbone.drop.p, module.where = 0.0, (where,)
    check_promise(subject(module, data=WithValidation), f"a asked in the {where} step", trainer=trainer())
    assert len(module.answers) >= 8
    assert all(torch.equal(answer, module.answers[0]) for answer in module.answers)


# Exceptions and Ctrl-C.


class TroubleError(Exception):
    pass


def raise_trouble():
    raise TroubleError("out of cheese")


def raise_interrupt():
    raise KeyboardInterrupt


def raise_signal():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def _sigint():
    """Lightning ignores the signal from Ctrl-C on."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


STOPS = {
    "an exception": (raise_trouble, TroubleError),
    "KeyboardInterrupt": (raise_interrupt, KeyboardInterrupt),
    "the signal of Ctrl-C": (raise_signal, KeyboardInterrupt),
}


def whole(module):
    return {name: bits(tensor) for name, tensor in module.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.usefixtures("_sigint")
@pytest.mark.promise("In the middle", label="interrupted inside subnetwork between two tasks")
@pytest.mark.parametrize("stop", STOPS)
def test_a_view_that_is_left_by_an_exception(stop):
    stops, expected = STOPS[stop]
    module, stopped = OwnModule(), False
    promise = Promise(subject(module), f"{stop} inside subnetwork")
    promise.fit("a", trainer=trainer())
    promise.fit("b", trainer=trainer())
    before, training = whole(module), [layer.training for layer in module.modules()]
    hidden = False
    try:
        with module.packnet.subnetwork("a"):
            hidden = not same(whole(module), before)
            stops()
    except expected:
        stopped = True
    assert hidden
    assert stopped
    assert same(whole(module), before)
    assert [layer.training for layer in module.modules()] == training
    promise.check(after="b and the exception")
    promise.fit("c", trainer=trainer())


class StopsInside(OwnModule):
    """Is stopped, once, while it asks a finished task."""

    stops = None

    def validation_step(self, batch, batch_idx):
        if self.stops is not None:
            stops, self.stops = self.stops, None
            with self.packnet.subnetwork("a"):
                stops()
        super().validation_step(batch, batch_idx)


@pytest.mark.usefixtures("_sigint")
@pytest.mark.promise("In the middle", label="interrupted inside subnetwork in the validation of a fit")
@pytest.mark.parametrize("phase", ["train", "retrain"])
@pytest.mark.parametrize("stop", STOPS)
def test_a_fit_that_is_stopped_inside_a_view(stop, phase):
    stops, expected = STOPS[stop]
    module = StopsInside()
    promise = Promise(subject(module, data=WithValidation), f"{stop} inside subnetwork, phase {phase}")
    promise.fit("a", trainer=trainer())
    if phase == "retrain":
        fit_phase(module, "b", "train", 0.5)
    module.stops = stops
    with pytest.raises((expected, SystemExit)):
        fit_phase(module, "b", phase, 0.5 if phase == "train" else None, data=WithValidation("b"), val_check_interval=2)
    assert (module.packnet.open_task, module.packnet.phase) == ("b", phase)
    promise.check(after="b, which was stopped")
    promise.fit("b", trainer=trainer())
    promise.fit("c", trainer=trainer())


class StopsInStep(OwnModule):
    """Is stopped, once, in the third batch."""

    stops = None

    def training_step(self, batch, batch_idx):
        if self.stops is not None and batch_idx == 2:
            stops, self.stops = self.stops, None
            stops()
        return super().training_step(batch, batch_idx)


@pytest.mark.usefixtures("_sigint")
@pytest.mark.promise("In the middle", label="interrupted in a training step")
@pytest.mark.parametrize("then", ["fitted again", "aborted"])
@pytest.mark.parametrize("stop", STOPS)
def test_a_fit_that_is_stopped(stop, then):
    stops, expected = STOPS[stop]
    module = StopsInStep()
    promise = Promise(subject(module), f"{stop} in a training step, then {then}")
    promise.fit("a", trainer=trainer())
    module.stops = stops
    with pytest.raises((expected, SystemExit)):
        fit_phase(module, "b", "train", 0.5)
    promise.check(after="b, which was stopped")
    if then == "aborted":
        module.packnet.abort_task()
        promise.check(after="b, which was aborted")
    else:
        promise.fit("b", trainer=trainer())
    promise.fit("c", trainer=trainer())


class StopsAfterWriting(optim.SGD):
    """Is stopped between the change of the weights and the end of the step."""

    def __init__(self, parameters, stops):
        super().__init__(parameters, lr=0.05, weight_decay=0.1)
        self.stops = stops

    def step(self, closure=None):
        super().step(closure)
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter.mul_(0.9)
        self.stops()


@pytest.mark.usefixtures("_sigint")
@pytest.mark.promise("In the middle", label="interrupted in the middle of an optimizer's step")
@pytest.mark.parametrize("stop", STOPS)
def test_a_step_that_is_stopped(stop):
    stops, expected = STOPS[stop]
    module = OwnModule()
    promise = Promise(subject(module), f"{stop} in a step")
    promise.fit("a", trainer=trainer())
    module.make_optimizer = partial(StopsAfterWriting, stops=stops)
    with pytest.raises((expected, SystemExit)):
        fit_phase(module, "b", "train", 0.5)
    module.make_optimizer = MOMENTUM
    promise.check(after="b, which was stopped")
    promise.fit("b", trainer=trainer())
    module.packnet.verify(module)


# Copies.

COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda module: pickle.loads(pickle.dumps(module))}


@pytest.mark.promise("In the middle", label="the module is copied between two tasks")
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_between_tasks(how):
    promise = Promise(subject(OwnModule()), "copied between tasks")
    promise.fit("a", trainer=trainer())
    other = Promise(subject(COPIES[how](promise.subject.module)), "the copy")
    other.finished = dict(promise.finished)
    for task in ("b", "c"):
        other.fit(task, trainer=trainer())
        promise.check(after=f"{task} of the copy")
    promise.fit("c", trainer=trainer())
    other.check(after="c of the original")
    assert (promise.subject.module.packnet.tasks, other.subject.module.packnet.tasks) == (["a", "c"], ["a", "b", "c"])


@pytest.mark.promise("In the middle", label="the module is copied while a task is open")
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_while_a_task_is_open(how):
    module = OwnModule()
    promise = Promise(subject(module), "copied while b is open")
    promise.fit("a", trainer=trainer())
    fit_phase(module, "b", "train", 0.5)
    twin = COPIES[how](module)
    other = Promise(subject(twin), "the copy")
    other.finished = dict(promise.finished)
    other.fit("b", trainer=trainer())
    other.fit("c", trainer=trainer())
    promise.check(after="c of the copy")
    assert (module.packnet.open_task, module.packnet.phase) == ("b", "retrain")
    promise.fit("b", trainer=trainer())
    other.check(after="b of the original")


class CopiesItself(pl.Callback):
    """Copies the module in the middle of a fit."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 1:
            self.twin = copy.deepcopy(pl_module)


def test_the_module_is_copied_in_the_middle_of_a_fit_and_the_copy_goes_on():
    module = OwnModule()
    promise = Promise(subject(module), "copied in the middle of a fit")
    promise.fit("a", trainer=trainer())
    copies = CopiesItself()
    fit_phase(module, "b", "train", 0.5, callbacks=[copies])
    other = Promise(subject(copies.twin), "the copy")
    other.finished = dict(promise.finished)
    assert (copies.twin.packnet.open_task, copies.twin.packnet.phase) == ("b", "train")
    other.fit("b", trainer=trainer())
    other.fit("c", trainer=trainer())
    promise.fit("b", trainer=trainer())
    promise.fit("c", trainer=trainer())


@pytest.mark.promise("In the middle", status="refused", label="a copy made inside subnetwork")
def test_a_copy_inside_a_view_is_refused():
    module = OwnModule()
    promise = Promise(subject(module), "copied inside subnetwork")
    promise.fit("a", trainer=trainer())
    promise.fit("b", trainer=trainer())
    with module.packnet.subnetwork("a"), pytest.raises(RuntimeError, match="subnetwork"):
        copy.deepcopy(module)
    promise.check(after="b and the copy that was refused")


# Checkpoints.


@pytest.mark.promise("In the middle", label="a fresh module goes on from a checkpoint written in the middle of phase")
@pytest.mark.parametrize("phase", ["train", "retrain"])
def test_a_resume_in_a_fresh_module(phase, tmp_path):
    module = OwnModule()
    promise = Promise(subject(module), f"resumed in phase {phase}")
    promise.fit("a", trainer=trainer())
    if phase == "retrain":
        fit_phase(module, "b", "train", 0.5)
    written = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)
    ratio = 0.5 if phase == "train" else None
    fit_phase(module, "b", phase, ratio, callbacks=[written], enable_checkpointing=True, max_epochs=2)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    for number, file in enumerate(files):
        torch.manual_seed(1000 + number)
        fresh = OwnModule()
        resumed = Promise(subject(fresh), f"resumed from {file.name}, phase {phase}")
        resumed.finished = dict(promise.finished)
        fit_phase(fresh, "b", phase, ratio, ckpt_path=file, max_epochs=2)
        resumed.check(after="b, which was resumed")
        if phase == "train":
            resumed.fit("b", trainer=trainer())
        resumed.fit("c", trainer=trainer())


def classifier_subject(model):
    def ask(task):
        features = model.backbone(images(1))
        return [features, model.heads[task](features)]

    return Subject(model, lambda task: loader(task[-1]), ask, model.select_task, model.private_modules)


@pytest.mark.promise("In the middle", label="TaskClassifier.load_from_checkpoint")
@pytest.mark.parametrize("opened", [False, True], ids=["none open", "one open"])
@pytest.mark.parametrize("finished", [1, 2, 5], ids=["1 finished task", "2 finished tasks", "5 finished tasks"])
def test_a_task_classifier_is_loaded_from_a_checkpoint(finished, opened, tmp_path):
    recipes = {"train": Recipe(MOMENTUM), "retrain": Recipe(MOMENTUM)}
    model = TaskClassifier(ConvNet(), num_features=FEATURES, recipes=recipes)
    promise = Promise(classifier_subject(model), f"TaskClassifier with {finished} tasks")
    tasks = [f"task {number}" for number in range(finished)]
    for task in tasks:
        model.add_task(task, num_classes=3)
        promise.fit(task, trainer=trainer())
    if opened:
        model.add_task("open 1", num_classes=3)
        callback = PackNetCallback(task="open 1", phase="train", prune_ratio=0.5)
        quiet(callback).fit(model, loader("a"))
    writer = quiet()
    writer.strategy.connect(model)
    writer.save_checkpoint(tmp_path / "last.ckpt")

    torch.manual_seed(1)
    backbone = ConvNet()
    loaded = TaskClassifier.load_from_checkpoint(
        tmp_path / "last.ckpt", backbone=backbone, num_features=FEATURES, recipes=recipes
    )
    assert (loaded.packnet.tasks, loaded.packnet.open_task) == (tasks, "open 1" if opened else None)
    promise.subject = classifier_subject(loaded)
    promise.check(after="the loading")
    for task in tasks:
        answer = bits(loaded(images(1), task=task))
        assert torch.equal(answer, promise.finished[task].answers[1])
    if not opened:
        loaded.add_task("open 1", num_classes=3)
    promise.fit("open 1", trainer=trainer())
    loaded.packnet.verify()


# Without autograd.


class AsksInTest(OwnModule):
    """Asks every finished task in ``Trainer.test``, which runs in inference mode."""

    def test_step(self, batch, batch_idx):
        assert torch.is_inference_mode_enabled()
        self.answers = {}
        for task in self.packnet.tasks:
            with self.packnet.subnetwork(task):
                features = self.backbone(images(1))
                self.answers[task] = [bits(features), bits(self.heads[task](features))]


def test_finished_tasks_are_tested_in_inference_mode_between_tasks():
    module = AsksInTest()
    promise = Promise(subject(module), "Trainer.test")
    for task in ("a", "b", "c"):
        promise.fit(task, trainer=trainer())
        module.eval()
        quiet().test(module, loader(task), verbose=False)
        module.train()
        for earlier, answers in module.answers.items():
            assert all(map(torch.equal, answers, promise.finished[earlier].answers)), f"{earlier!r} after {task!r}"
        promise.check(after=f"{task} and a test")


@pytest.mark.promise("In the middle", label="torch.inference_mode around")
@pytest.mark.parametrize("what", ["subnetwork", "begin_task", "restore_", "prune", "finish_task"])
def test_inference_mode_around(what, monkeypatch):
    called = []
    inside = getattr(PackNet, what)

    def without_autograd(self, *args, **kwargs):
        called.append(what)
        with torch.inference_mode():
            return inside(self, *args, **kwargs)

    @contextmanager
    def view_without_autograd(self, task):
        called.append(what)
        with torch.inference_mode(), inside(self, task):
            yield

    monkeypatch.setattr(PackNet, what, view_without_autograd if what == "subnetwork" else without_autograd)
    promise = Promise(subject(OwnModule()), f"inference_mode around {what}")
    for task in ("a", "b", "c"):
        promise.fit(task, trainer=trainer(lambda: AsksInTheMiddle(promise, "on_train_epoch_start")))
    promise.subject.module.packnet.verify()
    assert called
