"""Norms with their statistics, and biases, of which each task keeps its own."""

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning.callbacks import ModelCheckpoint
from safetensors.torch import load_file, safe_open, save_file
from torch import nn, optim

from packnet_pl import PackNet, TaskClassifier, fit_task, load_packed, save_packed
from packnet_pl.models import vgg_small
from packnet_pl.training import (
    ClassificationLoss,
    Distillation,
    LastPartAverage,
    RecalibrateNorms,
    Recipe,
    batch_mixing,
)
from tests.support.promise.checker import TASKS, Promise, Subject, asked, bits, check_promise
from tests.support.promise.own_modules import MOMENTUM, fit_phase, quiet, trainer
from tests.support.promise.user_modules import ADAMW, UserModule, images, subject_of

pytestmark = pytest.mark.promise("Separate parameters per task")

FOUR = {
    "all shared": ("shared", "shared"),
    "norms per task": ("per_task", "shared"),
    "biases per task": ("shared", "per_task"),
    "norms and biases per task": ("per_task", "per_task"),
}
OPTIMIZERS = {"SGD with momentum and decay": MOMENTUM, "AdamW": ADAMW}
NORM_NAMES = {
    *(f"bn.{key}" for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    "ln.weight",
    "ln.bias",
}
BIAS_NAMES = {"conv.bias", "fc1.bias", "rnn.bias_ih_l0", "rnn.bias_hh_l0", "fc2.bias"}
OTHER_NAMES = {"rnn.weight_ih_l0", "rnn.weight_hh_l0"}


class Net(nn.Module):
    """Biases and norms of several kinds."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.fc1, self.ln = nn.Linear(4 * 36, 6), nn.LayerNorm(6)
        self.rnn, self.fc2 = nn.GRU(6, 6, batch_first=True), nn.Linear(6, 8)

    def forward(self, x):
        x = torch.tanh(self.bn(self.conv(x)))
        x = torch.tanh(self.ln(self.fc1(x.flatten(1))))
        return self.fc2(self.rnn(x.unsqueeze(1))[0][:, -1])


def names_of(norm, bias):
    return (NORM_NAMES if norm == "per_task" else set()) | (BIAS_NAMES if bias == "per_task" else set())


def user_module(norm="per_task", bias="per_task", optimizer=MOMENTUM):
    return UserModule(Net(), 8, optimizer=optimizer, norm=norm, bias=bias)


def copies_of(packnet):
    return packnet.state_dict()["copies"]


def fit(module, *tasks):
    """Takes tasks from begin to finish; returns what asks them."""
    used = subject_of(module, images())
    for task in tasks:
        module.task = task
        fit_task(
            module,
            used.data(task),
            task=task,
            prune_ratio=0.5,
            private=f"heads.{task}",
            make_trainer=lambda _, callback: quiet(callback),
        )
    return used


def unowned(packnet):
    """Name -> bits of all that is not divided among tasks."""
    return {name: bits(value) for name, value in packnet.module.state_dict().items() if name not in packnet.owners}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("what", FOUR)
def test_nothing_is_forgotten(what, optimizer):
    norm, bias = FOUR[what]
    module = user_module(norm, bias, OPTIMIZERS[optimizer])
    packnet = module.packnet
    promise = Promise(subject_of(module, images()), f"{what}, {optimizer}")
    states = []
    for task in TASKS:
        promise.fit(task, trainer=trainer(), ratio=None if task == "c" else 0.5)
        states.append(unowned(packnet))
    own = names_of(norm, bias)
    assert set(packnet.summary().per_task) == own
    assert all(set(copies) == own for copies in copies_of(packnet).values())
    for before, after in pairwise(states):
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == own, "later tasks train their own, and what is shared stands still"
    packnet.verify(module)


@pytest.mark.promise("Separate parameters per task", label="TaskClassifier")
@pytest.mark.parametrize("what", FOUR)
def test_nothing_is_forgotten_by_a_task_classifier(what):
    model = task_classifier(*FOUR[what])
    check_promise(classifier_subject(model), what, trainer=trainer())
    model.packnet.verify(model)


@pytest.mark.promise("Training loop", label="TaskClassifier: mixup, cutmix, smoothed labels and class weights")
def test_nothing_is_forgotten_on_mixed_batches_with_another_loss():
    recipe = Recipe(
        MOMENTUM, loss=ClassificationLoss(0.1, (0.5, 1.0, 2.0)), mixing=batch_mixing(3, mixup=0.4, cutmix=1.0)
    )
    model = task_classifier("shared", "shared")
    model.recipes = {"train": recipe, "retrain": recipe}
    check_promise(classifier_subject(model), "mixed batches", trainer=trainer())
    model.packnet.verify(model)


@pytest.mark.promise("Training loop", label="TaskClassifier: distillation from the dense network while retraining")
@pytest.mark.parametrize("what", ["all shared", "norms and biases per task"])
def test_nothing_is_forgotten_with_distillation(what):
    model = task_classifier(*FOUR[what])
    model.recipes = {"train": Recipe(MOMENTUM), "retrain": Recipe(MOMENTUM, distillation=Distillation(0.5))}
    check_promise(classifier_subject(model), f"distillation, {what}", trainer=trainer())
    model.packnet.verify(model)


@pytest.mark.promise("Training loop", label="TaskClassifier: the mean over the last part, and recalibrated norms")
@pytest.mark.parametrize("what", ["all shared", "norms and biases per task"])
def test_nothing_is_forgotten_with_averages_and_recalibrated_norms(what):
    model = task_classifier(*FOUR[what])
    check_promise(classifier_subject(model), f"averages, {what}", trainer=trainer(LastPartAverage, RecalibrateNorms))
    model.packnet.verify(model)


def task_classifier(norm="per_task", bias="per_task"):
    recipes = {"train": Recipe(MOMENTUM), "retrain": Recipe(MOMENTUM)}
    net = vgg_small(image_size=8, stages=((4,), (6,)), hidden=8)
    return TaskClassifier(net, recipes=recipes, norm=norm, bias=bias)


def classifier_subject(model):
    data = subject_of(user_module(), images()).data

    def select(task):
        if task not in model.tasks:
            model.add_task(task, num_classes=3)
        model.select_task(task)

    def ask(task):
        features = model.backbone(IMAGES)
        return [features, model.heads[task](features)]

    return Subject(model, data, ask, select, model.private_modules)


IMAGES = torch.linspace(-1, 1, 256).reshape(4, 1, 8, 8)


def test_a_subnetwork_has_its_own_norms_and_biases_and_gives_all_back():
    module = user_module()
    fit(module, "a", "b", "c")
    packnet, outside, copies = module.packnet, unowned(module.packnet), copies_of(module.packnet)
    for task in TASKS:
        with packnet.subnetwork(task):
            inside = unowned(packnet)
            for name, value in copies[task].items():
                assert torch.equal(inside[name], bits(value)), f"{name} of {task}"
        assert all(torch.equal(value, outside[name]) for name, value in unowned(packnet).items())
    with pytest.raises(KeyError), packnet.subnetwork("a"):
        raise KeyError
    assert all(torch.equal(value, outside[name]) for name, value in unowned(packnet).items())


def test_a_task_begins_with_the_norms_and_biases_of_the_task_before():
    module = user_module()
    fit(module, "a", "b")
    packnet = module.packnet
    with packnet.subnetwork("a"):
        module.backbone(IMAGES)
    packnet.begin_task("c")
    now = unowned(packnet)
    assert all(torch.equal(now[name], bits(value)) for name, value in copies_of(packnet)["b"].items())


@pytest.mark.promise("Separate parameters per task", label="images seen in training mode between two tasks")
def test_images_seen_in_training_mode_between_two_tasks():
    """Statistics move then, while no task is open; finished tasks have their own."""
    module = user_module()
    promise = Promise(subject_of(module, images()), "norms per task")
    promise.fit("a", trainer=trainer())
    module.train()
    module.backbone(torch.randn(8, 1, 8, 8) + 5)
    promise.check(after="a, and images")
    promise.fit("b", trainer=trainer())


def test_abort_gives_back_what_the_last_finished_task_has():
    module = user_module()
    used = fit(module, "a", "b")
    packnet, before = module.packnet, unowned(module.packnet)
    module.task = "c"
    fit_phase(module, "c", ratio=0.5, data=used.data("c"))
    assert packnet.open_task == "c"
    moved = unowned(packnet)
    assert not any(torch.equal(moved[name], before[name]) for name in names_of("per_task", "per_task"))
    packnet.abort_task()
    assert all(torch.equal(value, before[name]) for name, value in unowned(packnet).items())
    packnet.verify(module)


def test_abort_of_the_first_task_keeps_what_training_made_of_it():
    module = user_module()
    fit_phase(module, "a", ratio=0.5, data=subject_of(module, images()).data("a"))
    trained = unowned(module.packnet)
    module.packnet.abort_task()
    assert all(torch.equal(value, trained[name]) for name, value in unowned(module.packnet).items())
    assert copies_of(module.packnet) == {}


@pytest.mark.parametrize("what", FOUR)
@pytest.mark.promise("Separate parameters per task", label="a checkpoint, read by another module")
def test_a_checkpoint_keeps_the_setting_and_the_values(what, tmp_path):
    norm, bias = FOUR[what]
    module = user_module(norm, bias)
    used = fit(module, "a", "b")
    path = tmp_path / "last.ckpt"
    saving = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True)
    fit_phase(module, "c", data=used.data("c"), callbacks=[saving], enable_checkpointing=True)

    fresh = user_module("shared", "shared")
    fresh.packnet = PackNet.from_checkpoint(fresh.backbone, path)
    fresh.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    fresh.packnet.verify(fresh)
    assert set(fresh.packnet.summary().per_task) == names_of(norm, bias)
    asking = subject_of(fresh, images())
    for task in "ab":
        with module.packnet.subnetwork(task):
            answers = asked(used, task)
        with fresh.packnet.subnetwork(task):
            assert all(torch.equal(a, b) for a, b in zip(answers, asked(asking, task), strict=True))
    fresh.packnet.abort_task()
    promise = Promise(asking, "from a checkpoint")
    promise.fit("c", trainer=trainer())


@pytest.mark.promise("Separate parameters per task", status="refused", label="a state that was made otherwise")
@pytest.mark.parametrize(
    ("made", "here"),
    [
        pytest.param(FOUR[made], FOUR[here], id=f"{made}, here: {here}")
        for made, here in [
            ("all shared", "norms per task"),
            ("all shared", "biases per task"),
            ("norms per task", "all shared"),
            ("norms and biases per task", "norms per task"),
        ]
    ],
)
def test_a_state_that_was_made_otherwise(made, here):
    module, other = user_module(*made), user_module(*here)
    fit(module, "a")
    what = next(word for word, (a, b) in {"norm": (made[0], here[0]), "bias": (made[1], here[1])}.items() if a != b)
    values = dict(zip(("norm", "bias"), zip(made, here, strict=True), strict=True))[what]
    with pytest.raises(ValueError, match=f"(?s){what}='{values[0]}'.*{what}='{values[1]}'"):
        other.packnet.load_state_dict(module.packnet.state_dict())
    assert other.packnet.tasks == []


def _without_a_tensor(state):
    del state["copies"]["a"]["bn.running_mean"]


def _without_a_task(state):
    del state["copies"]["a"]


def _without_copies(state):
    del state["copies"]


def _of_a_stranger(state):
    state["copies"]["z"] = state["copies"]["a"]


def _with_one_more(state):
    state["copies"]["a"]["fc1.weight"] = torch.zeros(6, 144)


def _of_another_shape(state):
    state["copies"]["a"]["bn.weight"] = torch.ones(5)


def _a_list(state):
    state["copies"]["a"]["bn.weight"] = [1.0] * 4


def _of_an_unknown_kind(state):
    state["norm"] = "both"


def _none(state):
    state["copies"] = None


DAMAGES = {
    "a tensor is missing": (_without_a_tensor, r"bn\.running_mean"),
    "a task is missing": (_without_a_task, "copies"),
    "all copies are missing": (_without_copies, "copies"),
    "copies of an unknown task": (_of_a_stranger, "z"),
    "a tensor too many": (_with_one_more, r"fc1\.weight"),
    "another shape": (_of_another_shape, r"bn\.weight"),
    "a list instead of a tensor": (_a_list, r"bn\.weight"),
    "an unknown setting": (_of_an_unknown_kind, "both"),
    "None instead of copies": (_none, "malformed"),
}


@pytest.mark.promise("Separate parameters per task", status="refused", label="a damaged state")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state(damage):
    module = user_module()
    fit(module, "a")
    state, fresh = deepcopy(module.packnet.state_dict()), user_module().packnet
    act, words = DAMAGES[damage]
    act(state)
    with pytest.raises(ValueError, match=words):
        fresh.load_state_dict(state)
    assert (fresh.tasks, fresh.open_task) == ([], None)


CHANGES = {
    "one value": lambda copy: copy.index_fill(0, torch.tensor(1), 7.0),
    "the sign of a zero": lambda copy: torch.copysign(copy, -torch.ones(())),
    "double precision": lambda copy: copy.double(),
}


@pytest.mark.promise("Separate parameters per task", status="noticed", label="a copy in a state was changed")
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_noticed(change):
    module = user_module()
    with torch.no_grad():
        module.backbone.conv.weight.zero_()
    used = fit(module, "a")
    state = deepcopy(module.packnet.state_dict())
    name = "bn.bias"
    state["copies"]["a"][name] = CHANGES[change](state["copies"]["a"][name])
    assert state["copies"]["a"][name].dtype != torch.float32 or not torch.equal(
        bits(state["copies"]["a"][name]), bits(module.packnet.state_dict()["copies"]["a"][name])
    )
    module.packnet.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"bn\.bias.*'a'"):
        module.packnet.verify()
    with pytest.raises(RuntimeError, match=r"bn\.bias.*'a'"):
        fit_phase(module, "b", data=used.data("b"))
    assert module.packnet.open_task is None


@pytest.mark.promise("Separate parameters per task", status="refused", label="an unknown value")
@pytest.mark.parametrize("what", ["norm", "bias"])
@pytest.mark.parametrize("value", ["own", "per-task", "", None, True], ids=repr)
def test_an_unknown_value(what, value):
    for make in (PackNet, lambda net, **wanted: TaskClassifier(net, num_features=8, **wanted)):
        with pytest.raises(ValueError, match=rf"{what} is {value!r}; allowed are 'shared' and 'per_task'"):
            make(Net(), **{what: value})


@pytest.mark.promise("Separate parameters per task", label="resumed in the middle of the second task")
@pytest.mark.parametrize("phase", ["train", "retrain"])
def test_resumed_in_the_middle(phase, tmp_path):
    def run(module, ckpt_path=None, folder=None):
        used = subject_of(module, images())
        saving = [ModelCheckpoint(folder, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)] if folder else []
        fit_phase(
            module,
            "b",
            phase,
            ratio=0.5 if phase == "train" else None,
            data=used.data("b"),
            callbacks=saving,
            ckpt_path=ckpt_path,
            max_epochs=3,
            enable_checkpointing=bool(folder),
        )
        return module

    straight = user_module(optimizer=ADAMW)
    used = fit(straight, "a")
    if phase == "retrain":
        fit_phase(straight, "b", ratio=0.5, data=used.data("b"))
    run(straight, folder=tmp_path)
    resumed = run(user_module(optimizer=ADAMW), ckpt_path=tmp_path / "epoch=0.ckpt")

    assert resumed.packnet.tasks == straight.packnet.tasks
    left, right = straight.state_dict(), resumed.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(bits(left[name]), bits(right[name])) for name in left)
    for task, copies in copies_of(straight.packnet).items():
        assert all(torch.equal(value, copies_of(resumed.packnet)[task][name]) for name, value in copies.items())
    resumed.packnet.verify(resumed)


def packed(tmp_path, what="norms and biases per task"):
    model = task_classifier(*FOUR[what])
    used = classifier_subject(model)
    promise = Promise(used, what)
    for task in TASKS:
        promise.fit(task, trainer=trainer())
    path = tmp_path / "packed.safetensors"
    save_packed(model, path)
    return model, promise, path


@pytest.mark.promise("Separate parameters per task", label="a packed file, and a network of one task out of it")
@pytest.mark.parametrize("what", FOUR)
def test_a_packed_file(what, tmp_path):
    _, promise, path = packed(tmp_path, what)
    network = load_packed(path)
    for task in TASKS:
        logits = promise.finished[task].answers[1]
        assert torch.equal(bits(network(IMAGES, task=task)), logits)
        alone = network.standalone(task)
        with torch.no_grad():
            assert torch.equal(bits(alone(IMAGES)), logits)
        for name, value in network.packnet.state_dict()["copies"][task].items():
            assert torch.equal(bits(alone.backbone.state_dict()[name]), bits(value))


@pytest.mark.promise("Separate parameters per task", status="refused", label="a packed file with a changed copy")
def test_a_packed_file_with_a_changed_copy(tmp_path):
    _, _, path = packed(tmp_path)
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    name = next(name for name in tensors if name.startswith("copies/1/") and name.endswith("running_mean"))
    tensors[name][0] += 1
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match=name.removeprefix("copies/1/").replace(".", r"\.")):
        load_packed(path)


@pytest.mark.promise(
    "Separate parameters per task", label="a TaskClassifier's checkpoint, read by load_from_checkpoint"
)
def test_a_checkpoint_of_a_task_classifier(tmp_path):
    model = task_classifier()
    promise = Promise(classifier_subject(model), "norms and biases per task")
    saving = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True)
    promise.fit("a", trainer=trainer())
    promise.fit("b", trainer=lambda *own: quiet(*own, saving, enable_checkpointing=True), ratio=None)

    net = vgg_small(image_size=8, stages=((4,), (6,)), hidden=8)
    with pytest.raises(ValueError, match=r"norm='per_task'.*norm='shared'"):
        TaskClassifier.load_from_checkpoint(tmp_path / "last.ckpt", backbone=deepcopy(net))
    read = TaskClassifier.load_from_checkpoint(tmp_path / "last.ckpt", backbone=net, norm="per_task", bias="per_task")
    assert read.packnet.tasks == ["a"]
    promise.subject = classifier_subject(read)
    del promise.finished["b"]
    promise.check(after="a checkpoint")


def _norm(kind, width):
    return {
        "none": nn.Identity,
        "batch": lambda: nn.BatchNorm1d(width),
        "batch without parameters": lambda: nn.BatchNorm1d(width, affine=False),
        "layer": lambda: nn.LayerNorm(width),
        "group": lambda: nn.GroupNorm(2, width),
    }[kind]()


NORM_KINDS = st.sampled_from(["none", "batch", "batch without parameters", "layer", "group"])
NETS = st.lists(st.tuples(st.sampled_from([2, 4, 6]), NORM_KINDS, st.booleans()), min_size=1, max_size=3)
OPTIMIZER_KINDS = st.sampled_from(["SGD", "AdamW"])
LIVES = st.lists(
    st.fixed_dictionaries(
        {
            "ratio": st.sampled_from([None, 0.0, 0.25, 0.5, 0.9]),
            "optimizer": OPTIMIZER_KINDS,
            "end": st.sampled_from(["finish", "finish", "finish", "abort"]),
            "look": st.booleans(),
            "copy": st.sampled_from(["no", "deepcopy", "state dict"]),
        }
    ),
    min_size=2,
    max_size=5,
)


def small_net(layers):
    net, width = nn.Sequential(), 4
    for out, norm, bias in layers:
        net.extend([nn.Linear(width, out, bias=bias), _norm(norm, out), nn.Tanh()])
        width = out
    return net


def steps(packnet, kind):
    """A loop of a user's own."""
    net = packnet.module.train()
    parameters = list(net.parameters())
    optimizer = (
        optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)
        if kind == "SGD"
        else optim.AdamW(parameters, lr=0.05, weight_decay=0.1)
    )
    for _ in range(2):
        optimizer.zero_grad()
        answer = net(torch.randn(6, 4))
        F.mse_loss(answer, torch.randn_like(answer)).backward()
        packnet.mask_gradients_()
        optimizer.step()
        packnet.restore_()


def remade(packnet, how, make):
    if how == "deepcopy":
        return deepcopy(packnet)
    if how == "state dict":
        fresh = make()
        fresh.module.load_state_dict(packnet.module.state_dict())
        fresh.load_state_dict(deepcopy(packnet.state_dict()))
        return fresh
    return packnet


@pytest.mark.promise(
    "Separate parameters per task", label="random networks and lives, against a copy of each finished task"
)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(
    layers=NETS, lives=LIVES, norm=st.sampled_from(["shared", "per_task"]), bias=st.sampled_from(["shared", "per_task"])
)
def test_a_subnetwork_is_the_copy_that_was_made_when_its_task_was_finished(layers, lives, norm, bias):
    torch.manual_seed(0)

    def make():
        return PackNet(small_net(layers), norm=norm, bias=bias)

    packnet, finished = make(), {}

    def compare():
        for task, (state, answer) in finished.items():
            outside = {name: bits(value) for name, value in packnet.module.state_dict().items()}
            with packnet.subnetwork(task), torch.no_grad():
                shown = packnet.module.state_dict()
                assert shown.keys() == state.keys()
                for name, value in state.items():
                    assert torch.equal(bits(shown[name]), bits(value)), f"{name} of {task}"
                assert torch.equal(packnet.module.eval()(PROBE), answer)
            assert all(torch.equal(bits(v), outside[name]) for name, v in packnet.module.state_dict().items())

    for number, life in enumerate(lives):
        if packnet.owners and not any((owner == 0).any() for owner in packnet.owners.values()):
            break
        packnet.begin_task(f"task {number}")
        steps(packnet, life["optimizer"])
        if life["look"]:
            compare()
        if life["ratio"] is not None:
            packnet.prune(life["ratio"])
            packnet = remade(packnet, life["copy"], make)
            steps(packnet, life["optimizer"])
        if life["end"] == "abort":
            packnet.abort_task()
        else:
            packnet.finish_task()
            copy = deepcopy(packnet.module).eval()
            with torch.no_grad():
                # Not the module that is tested: its weights, plainly kept.
                finished[f"task {number}"] = copy.state_dict(), copy(PROBE)
        compare()
        packnet = remade(packnet, life["copy"], make)
        packnet.verify()


PROBE = torch.linspace(-2, 2, 12).reshape(3, 4)
