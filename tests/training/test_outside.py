"""What is neither shared nor a task's own is held, and refused where it learns."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint, ModelPruning
from torch import nn

from packnet_pl import PackNet, PackNetCallback
from packnet_pl.training.outside import Outside
from packnet_pl.training.outside_slots import check_free_names
from tests.support.fits import OwnModule, SmallNet, Spoiler, fit_own, fit_phase, loader, quiet, snapshot


class Root(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = SmallNet()
        self.neck = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))
        self.heads = nn.ModuleDict({task: nn.Linear(6, 3) for task in "abc"})
        self.scale = nn.Parameter(torch.ones(6))
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("cache", torch.zeros(6), persistent=False)


def outside(root, free=(), optimizers=None):
    """With task a finished and b open; all parameters are stepped unless ``optimizers`` are given."""
    packnet = PackNet(root.backbone)
    packnet.begin_task("a", private=["heads.a"])
    packnet.prune(0.5)
    packnet.finish_task(root)
    packnet.begin_task("b", private=["heads.b"])
    chosen = [torch.optim.SGD(root.parameters(), lr=0.1)] if optimizers is None else optimizers
    return Outside(packnet, root, free, lambda: chosen)


def give_gradient(*parameters):
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)


def test_only_what_is_neither_shared_nor_a_task_s_nor_free_is_outside():
    root = Root()
    held = {id(tensor) for tensor in outside(root, free=["neck.1", "scale"]).tensors()}
    expected = [*root.neck[0].parameters(), *root.heads["c"].parameters(), root.mean, root.cache]
    assert held == {id(tensor) for tensor in expected}


def test_a_module_with_two_names_is_private_under_either():
    root = nn.Module()
    root.current = nn.Linear(6, 3)
    root.heads, root.backbone = nn.ModuleDict({"b": root.current, "a": nn.Linear(6, 3)}), SmallNet()
    assert outside(root).tensors() == []


def test_what_is_tied_to_the_shared_part_is_not_outside():
    root = Root()
    root.neck[0].weight = root.backbone.fc.bias
    root.scale.data = root.backbone.bn.weight.data
    names = {id(tensor) for tensor in outside(root).tensors()}
    assert not names & {id(root.neck[0].weight), id(root.scale)}


def test_a_gradient_that_no_optimizer_follows_is_none_of_our_business():
    root = Root()
    give_gradient(root.scale)
    outside(root, optimizers=[torch.optim.SGD(root.heads.parameters(), lr=0.1)]).refuse_learning()
    outside(root, free=["scale"]).refuse_learning()
    for optimizers in (None, [object()]):
        with pytest.raises(ValueError, match=r"^scale would be trained .* free=\['scale'\]"):
            outside(root, optimizers=optimizers).refuse_learning()
    root.scale.grad.zero_()
    outside(root).refuse_learning()
    root.scale.grad = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0]).to_sparse()
    with pytest.raises(ValueError, match=r"^scale would be trained"):
        outside(root).refuse_learning()


def test_all_that_learns_is_named_with_the_largest_modules_that_learn_whole():
    root = Root()
    give_gradient(*root.neck.parameters(), root.heads["c"].weight, root.scale)
    match = r"^scale and 5 more .*private=\['heads.b', 'neck', 'heads.c'\].*free=\['scale', 'neck', 'heads.c'\]$"
    with pytest.raises(ValueError, match=match):
        outside(root).refuse_learning()


@pytest.mark.parametrize("name", ["mean", "cache", "neck.1.running_mean"])
def test_a_buffer_that_changes_is_refused_whether_it_tells_or_not(name):
    root = Root()
    watched = outside(root)
    watched.look(sure=True)
    root.get_buffer(name).data.add_(1)
    with pytest.raises(ValueError, match=rf"^{name} would be changed .*or keep its layer in eval mode$"):
        watched.look(sure=True)
    watched = outside(root)
    root.get_buffer(name).add_(1)
    with pytest.raises(ValueError, match=rf"^{name} would be changed"):
        watched.look()


def test_a_buffer_that_was_taken_away_is_refused_and_comes_back():
    root = Root()
    watched = outside(root)
    root.mean = None
    with pytest.raises(ValueError, match=r"^mean would be changed"):
        watched.look(sure=True)
    watched.restore_all_(warn=True)
    assert root.mean.tolist() == [0.0] * 6


def test_a_cache_may_grow_and_values_may_be_written_anew():
    root = Root()
    watched = outside(root)
    root.cache = torch.zeros(9)
    root.mean.copy_(torch.full((6,), -0.0))
    watched.look(sure=True)
    assert root.cache.shape == (9,)


@pytest.mark.parametrize("why", ["frozen", "gradient", "in no optimizer", "idle", "unseen step"])
@torch.no_grad()
def test_a_parameter_that_changes_is_refused_unless_it_is_an_idle_one_that_an_optimizer_may_have(why):
    root = Root()
    if why == "frozen":
        root.scale.requires_grad_(False)
    if why == "gradient":
        give_gradient(root.scale)
    watched = outside(root, optimizers=[torch.optim.SGD([root.scale], lr=0.1)] if why == "idle" else [])
    root.scale.add_(1)
    if why in ("idle", "unseen step"):
        with pytest.warns(UserWarning, match=r"^scale changed in the fit of task 'b'.*free=\['scale'\] lets it change"):
            watched.look(unseen=why == "unseen step")
        assert root.scale.tolist() == [1.0] * 6
    else:
        with pytest.raises(ValueError, match=r"^scale would be changed"):
            watched.look(unseen=why in ("frozen", "gradient"))


def test_remedies_name_modules_that_hold_nothing_else():
    root = nn.Module()
    root.backbone, root.scale = SmallNet(), nn.Parameter(torch.ones(6))
    root.net = nn.ModuleDict({"backbone": root.backbone, "neck": nn.Linear(6, 6)})
    root.heads = nn.ModuleDict({task: nn.Linear(6, 3) for task in "ab"})
    give_gradient(*root.net["neck"].parameters(), root.scale)
    match = r"private=\['heads.b', 'net.neck'\], one .* task, with scale in a module; .*free=\['scale', 'net.neck'\]$"
    with pytest.raises(ValueError, match=match):
        outside(root).refuse_learning()


@pytest.mark.parametrize("where", ["list", "dict", "tensor"])
def test_what_is_trained_without_being_registered_is_refused_by_name(where):
    root = Root()
    layer, scale = nn.Linear(6, 6), torch.ones((), requires_grad=True)
    given = {"list": [layer], "dict": {"x": (layer,)}, "tensor": scale}[where]
    root.neck.plain = given
    names = {"list": r"neck\.plain\[0\]\.weight and 1 more", "dict": r"neck\.plain\['x'\]\[0\]\.weight and 1 more"}
    learned = [scale] if where == "tensor" else [*layer.parameters()]
    elsewhere = nn.Parameter(torch.ones(3))  # as the copies that some optimizers step
    optimizer = torch.optim.SGD([*root.backbone.parameters(), *learned, elsewhere], lr=0.1)
    give_gradient(elsewhere)
    watched = outside(root, optimizers=[optimizer])
    watched.refuse_learning()
    give_gradient(*learned)
    with pytest.raises(ValueError, match=rf"^{names.get(where, 'neck.plain')} would be trained .* plain attribute"):
        watched.refuse_learning()


@pytest.mark.parametrize(
    ("free", "match"),
    [
        ("nick", "Root has no module, parameter or buffer of that name"),
        ("neck.0.wait", "Root has no module, parameter or buffer of that name"),
        ("", "Root has no module, parameter or buffer of that name"),
        (3, "Root has no module, parameter or buffer of that name"),
        ("backbone", r"lies inside the shared module \(SmallNet\)"),
        ("backbone.fc.weight", r"lies inside the shared module \(SmallNet\)"),
        ("heads.a", "belongs to the finished task 'a'"),
        ("heads.a.weight", "belongs to the finished task 'a'"),
        ("heads.b", r"is private=\['heads\.b'\] as well"),
    ],
)
def test_what_cannot_be_free_is_refused(free, match):
    root = Root()
    packnet = outside(root)._packnet
    with pytest.raises(ValueError, match=rf"^free={free!r}:? .*{match}" if "as well" not in match else match):
        check_free_names(packnet, root, [free], ["heads.b"])
    assert check_free_names(packnet, root, ["neck", "neck.0.weight", "mean"], []) == ["neck", "neck.0.weight", "mean"]


# In a fit.


class WithNeck(OwnModule):
    def __init__(self):
        super().__init__()
        self.neck = nn.Linear(6, 6)

    def forward(self, x):
        return self.heads[self.task](self.neck(self.backbone(x)))


def test_a_refused_fit_of_an_open_task_leaves_it_open_as_it_was():
    module = WithNeck()
    fit_phase(module, "a", "train", 0.5, own={"free": "neck"})
    before = snapshot(module)
    with pytest.raises(ValueError, match=r"^neck\.weight and 1 more would be trained"):
        fit_phase(module, "a", "retrain")
    assert snapshot(module) == before
    assert module.packnet.phase == "retrain"


@pytest.mark.parametrize("automatic", [True, False])
def test_what_follows_by_hand_without_a_gradient_is_refused_or_free(automatic):
    class Follows(WithNeck):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = automatic
            self.teacher = nn.Linear(6, 6)

        def configure_optimizers(self):
            followed = {id(parameter) for parameter in self.teacher.parameters()}
            return torch.optim.SGD([p for p in self.parameters() if id(p) not in followed], lr=0.1)

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            if not automatic:
                self.optimizers().zero_grad()
                self.manual_backward(loss)
                self.optimizers().step()
            with torch.no_grad():
                self.teacher.weight.lerp_(self.neck.weight, 0.1)
            return loss

    module = Follows()
    before = snapshot(module)
    with pytest.raises(ValueError, match=r"^teacher\.weight would be changed by .*free=\['teacher'\]$"):
        fit_phase(module, "a", own={"free": "neck"})
    assert snapshot(module) == before
    fit_phase(module, "a", own={"free": ["neck", "teacher"]})
    assert snapshot(module)["tensors"]["teacher.weight"] != before["tensors"]["teacher.weight"]


def test_what_begins_to_learn_late_is_refused_and_the_task_stays_open():
    module = WithNeck()
    module.neck.requires_grad_(False)
    late = Spoiler(lambda _, m: m.neck.requires_grad_(True), batch=3)
    with pytest.raises(ValueError, match=r"^neck\.weight and 1 more would be trained"):
        fit_phase(module, "a", callbacks=[late])
    assert (module.packnet.open_task, module.packnet.phase) == ("a", "train")


def test_a_gradient_that_a_hook_gives_just_before_the_step_is_refused():
    class Late(WithNeck):
        def on_before_optimizer_step(self, optimizer):
            self.neck.weight.grad = torch.ones_like(self.neck.weight)

    module = Late()
    module.neck.requires_grad_(False)
    before = snapshot(module)
    with pytest.raises(ValueError, match=r"^neck\.weight would be trained"):
        fit_phase(module, "a")
    assert snapshot(module) == before


def test_an_average_in_a_checkpoint_does_not_round_what_is_outside(tmp_path):
    module = WithNeck()
    module.neck.requires_grad_(False)
    saving = ModelCheckpoint(tmp_path, filename="last")
    averaging = EMAWeightAveraging(decay=0.7)
    fit_phase(module, "a", callbacks=[averaging, saving], enable_checkpointing=True, max_epochs=2)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(saved["neck.weight"], module.neck.weight)


def test_a_change_in_the_last_validation_is_told_and_put_back():
    class Threshold(OwnModule):
        def __init__(self):
            super().__init__()
            self.register_buffer("threshold", torch.zeros(()))

        def on_validation_epoch_end(self):
            self.threshold.add_(0.5)

    module = Threshold()
    module.task = "a"
    data = pl.LightningDataModule.from_datasets(loader().dataset, loader().dataset, batch_size=8)
    with pytest.warns(UserWarning, match=r"^threshold changed .*free=\['threshold'\] lets it change"):
        fit_own(module, "a", data=data)
    assert module.threshold == 0
    fit_own(module, "b", ratio=None, data=data, free="threshold")
    assert module.threshold == 0.5


def test_lightning_s_own_pruning_beside_the_callback_is_refused_by_name():
    class Mine(ModelPruning):
        pass

    module = OwnModule()
    before = snapshot(module)
    for pruning in (ModelPruning("l1_unstructured", amount=0.5), Mine("l1_unstructured", amount=0.5)):
        with pytest.raises(ValueError, match=rf"^{type(pruning).__name__} beside PackNetCallback"):
            quiet(PackNetCallback(task="a", phase="train", private="heads.a"), pruning).fit(module, loader())
    assert snapshot(module) == before


def test_a_head_that_never_got_a_gradient_is_named():
    module = OwnModule()
    fit_own(module, "a")
    with pytest.warns(UserWarning, match=r"^heads\.b is private to task 'b' and never got a gradient in this fit"):
        quiet(PackNetCallback(task="b", phase="train", private="heads.b")).fit(module, loader())  # computes with a's
    assert module.packnet.tasks == ["a", "b"]


def test_a_head_that_no_optimizer_moves_is_named():
    class Forgets(OwnModule):
        def configure_optimizers(self):
            return torch.optim.SGD(self.backbone.parameters(), lr=0.1)

    with pytest.warns(UserWarning, match=r"^heads\.a .* moved by no optimizer .*does configure_optimizers\(\) leave"):
        fit_phase(Forgets(), "a")
