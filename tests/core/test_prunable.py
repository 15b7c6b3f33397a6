import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

from packnet_pl.core import PackNet
from packnet_pl.core.inventory import take_inventory
from packnet_pl.core.prunable import RULES, is_weight
from packnet_pl.core.slots import Slot, plain_name, slots_of
from tests.support.tiny import TinyNet, equal, pack, snapshot

KINDS = {
    "Conv1d": lambda bias: nn.Conv1d(2, 3, 2, bias=bias),
    "Conv2d": lambda bias: nn.Conv2d(2, 3, 2, bias=bias),
    "Conv3d": lambda bias: nn.Conv3d(2, 3, 2, bias=bias),
    "ConvTranspose1d": lambda bias: nn.ConvTranspose1d(2, 3, 2, bias=bias),
    "ConvTranspose2d": lambda bias: nn.ConvTranspose2d(2, 3, 2, bias=bias),
    "ConvTranspose3d": lambda bias: nn.ConvTranspose3d(2, 3, 2, bias=bias),
    "Linear": lambda bias: nn.Linear(2, 3, bias=bias),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_of_each_prunable_layer_is_owned_and_its_bias_frozen(kind, bias):
    layer = KINDS[kind](bias)
    inventory = take_inventory(nn.Sequential(nn.Identity(), layer))
    assert list(inventory.owned) == ["1.weight"]
    assert inventory.owned["1.weight"] == Slot(layer, "weight", True, True)
    assert inventory.owned["1.weight"].now is layer.weight
    assert list(inventory.frozen) == (["1.bias"] if bias else [])
    assert inventory.refused == {}


@pytest.mark.parametrize("kind", KINDS)
def test_each_prunable_layer_goes_through_a_task(kind):
    layer = KINDS[kind](True)
    packnet = PackNet(layer)
    packnet.begin_task("a")
    packnet.prune(0.5)
    packnet.finish_task()
    assert packnet.summary().total.free == round(layer.weight.numel() / 2)


def test_a_single_layer_is_named_without_a_dot():
    assert list(take_inventory(nn.Linear(2, 2)).owned) == ["weight"]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Embedding(4, 3),
        nn.EmbeddingBag(4, 3),
        nn.LayerNorm(3),
        nn.GroupNorm(1, 3),
        nn.BatchNorm1d(3),
        nn.BatchNorm2d(3),
        nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
        nn.PReLU(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_norms_tables_and_vectors_are_frozen(layer):
    inventory = take_inventory(layer)
    assert inventory.owned == {}
    assert inventory.refused == {}
    assert set(inventory.frozen) == set(layer.state_dict())


def test_by_the_paper_s_rule_attention_owns_its_output_projection_only():
    inventory = take_inventory(nn.MultiheadAttention(4, 2), RULES["paper"])
    assert list(inventory.owned) == ["out_proj.weight"]
    assert set(inventory.frozen) == {"in_proj_weight", "in_proj_bias", "out_proj.bias"}


def test_bare_parameters_are_frozen():
    net = TinyNet()
    net.scale = nn.Parameter(torch.ones(1))
    assert "scale" in take_inventory(net).frozen


def test_owned_and_frozen_follow_the_module_tree_and_divide_the_state_dict():
    net = TinyNet()
    inventory = take_inventory(net)
    assert list(inventory.owned) == ["conv.weight", "fc.weight"]
    assert list(inventory.frozen) == [
        "conv.bias",
        "bn.weight",
        "bn.bias",
        "fc.bias",
        "bn.running_mean",
        "bn.running_var",
        "bn.num_batches_tracked",
    ]
    assert {*inventory.owned, *inventory.frozen} == set(net.state_dict())


def test_the_summary_lists_what_is_owned_frozen_and_refused():
    net = TinyNet()
    net.later = nn.LazyLinear(2, bias=False)
    summary = PackNet(net).summary()
    assert summary.owned == ("conv.weight", "fc.weight")
    assert "bn.running_var" in summary.frozen
    assert list(summary.refused) == ["later.weight"]
    assert "refused: later.weight" in str(summary)


def test_weights_tied_between_layers_are_owned_once():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    packnet = PackNet(net)
    assert list(packnet.owners) == ["0.weight"]
    assert packnet.summary().total.weights == 9
    packnet.begin_task("a")
    packnet.prune(0.5)
    assert packnet.summary().total.free == round(4.5)
    assert int((net[1].weight == 0).sum()) == round(4.5)


def test_weights_that_share_their_memory_are_owned_once_though_they_are_two_objects():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3))
    net[2].weight = nn.Parameter(net[0].weight.data)
    net[3].running_mean = net[1].running_mean.detach()
    inventory = take_inventory(net)
    assert list(inventory.owned) == ["0.weight"]
    assert "1.running_mean" in inventory.frozen
    assert "3.running_mean" not in inventory.frozen


def test_a_linear_layer_tied_to_an_embedding_is_owned_and_not_frozen():
    net = nn.ModuleDict({"embed": nn.Embedding(4, 3), "decode": nn.Linear(3, 4)})
    net["decode"].weight = net["embed"].weight
    inventory = take_inventory(net)
    assert list(inventory.owned) == ["decode.weight"]
    assert list(inventory.frozen) == ["decode.bias"]


def test_a_module_used_twice_is_owned_once():
    layer = nn.Linear(2, 2)
    inventory = take_inventory(nn.Sequential(layer, nn.ReLU(), layer))
    assert list(inventory.owned) == ["0.weight"]
    assert list(inventory.frozen) == ["0.bias"]


def test_a_function_is_asked_about_every_parameter_once():
    net = TinyNet()
    asked = []
    take_inventory(net, lambda *given: asked.append(given))
    layers = {"conv": net.conv, "bn": net.bn, "fc": net.fc}
    assert [(name, module) for name, module, _ in asked] == [
        (f"{name}.{key}", layer) for name, layer in layers.items() for key in ("weight", "bias")
    ]
    assert all(parameter is net.get_parameter(name) for name, _, parameter in asked)


def test_prunable_narrows_what_is_owned_and_the_rest_stands_still_after_the_first_task():
    net = TinyNet()
    packnet = PackNet(net, prunable=lambda name, module, parameter: name == "fc.weight")
    assert list(packnet.owners) == ["fc.weight"]
    assert "conv.weight" in packnet.summary().frozen
    start = net.conv.weight.detach().clone()
    pack(packnet, "a")
    frozen = net.conv.weight.detach().clone()
    assert not torch.equal(frozen, start)
    pack(packnet, "b")
    assert torch.equal(net.conv.weight, frozen)


def test_prunable_can_widen_the_choice():
    assert list(take_inventory(nn.LayerNorm(3), lambda *_: True).owned) == ["weight", "bias"]


@pytest.mark.parametrize("layer", [nn.LazyLinear(2), nn.LazyConv2d(2, 1), nn.LazyBatchNorm1d()])
def test_lazy_layers_are_refused_by_name_with_what_to_do(layer):
    packnet = PackNet(nn.Sequential(nn.Linear(2, 2), layer))
    assert set(packnet.summary().refused) >= {"1.weight", "1.bias"}
    with pytest.raises(ValueError, match=r"'cubs'.*1\.weight.*lazy.*run one batch"):
        packnet.begin_task("cubs")
    assert packnet.tasks == []
    assert packnet.open_task is None
    assert not packnet.owners["0.weight"].any()


def test_a_lazy_network_can_begin_after_the_batch_that_the_refusal_asks_for():
    net = nn.Sequential(nn.LazyLinear(3))
    packnet = PackNet(net)
    with pytest.raises(ValueError, match="run one batch"):
        packnet.begin_task("cubs")
    net(torch.ones(1, 2))
    packnet.begin_task("cubs")
    assert packnet.summary().total.owned == {"cubs": 6}


def test_a_network_without_values_is_refused_with_what_to_do():
    packnet = PackNet(TinyNet().to("meta"))
    assert packnet.summary().refused["fc.weight"] == "it has no values (meta device): materialize the network first"
    with pytest.raises(
        ValueError, match=r"'cubs': parameter conv\.weight is refused: it has no values \(meta device\)"
    ):
        packnet.begin_task("cubs")
    packnet.module.to_empty(device="cpu")
    packnet.begin_task("cubs")
    assert packnet.summary().total.owned == {"cubs": 132}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_quantized_tensors_are_refused():
    net = TinyNet()
    net.register_buffer("table", torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8))
    packnet = PackNet(net)
    assert "it is quantized" in packnet.summary().refused["table"]
    with pytest.raises(ValueError, match=r"'cubs': parameter table is refused: it is quantized"):
        packnet.begin_task("cubs")


def test_complex_weights_are_refused():
    packnet = PackNet(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, dtype=torch.complex64)))
    before = snapshot(packnet)
    assert "complex64" in packnet.summary().refused["1.weight"]
    with pytest.raises(ValueError, match=r"'cubs'.*1\.weight.*complex64"):
        packnet.begin_task("cubs")
    assert equal(snapshot(packnet), before)


def test_sparse_weights_are_refused():
    layer = nn.Linear(2, 2)
    layer.weight = nn.Parameter(torch.eye(2).to_sparse())
    assert "sparse" in take_inventory(layer).refused["weight"]


def test_names_are_those_of_the_plain_module_also_when_it_is_compiled():
    net = TinyNet()
    plain = take_inventory(net)
    whole = take_inventory(torch.compile(net))
    assert list(whole.owned) == list(plain.owned)
    assert list(whole.frozen) == list(plain.frozen)

    net.fc = torch.compile(net.fc)
    asked = []
    part = take_inventory(net, lambda name, *given: asked.append(name) or is_weight(name, *given))
    assert list(part.owned) == list(plain.owned)
    assert list(part.frozen) == list(plain.frozen)
    assert asked == [plain_name(name) for name, _ in net.named_parameters()]


def test_a_state_moves_between_a_plain_and_a_compiled_module():
    net = TinyNet()
    packnet = PackNet(net)
    pack(packnet, "a")
    compiled = PackNet(torch.compile(net))
    compiled.load_state_dict(packnet.state_dict())
    compiled.verify()
    assert compiled.tasks == ["a"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [("_orig_mod.fc.weight", "fc.weight"), ("a._orig_mod.b._orig_mod.weight", "a.b.weight"), ("fc.bias", "fc.bias")],
)
def test_plain_name_drops_the_prefix_of_compile_wherever_it_stands(given, expected):
    assert plain_name(given) == expected


def test_buffers_that_are_in_no_state_dict_stand_still_too_but_no_file_knows_them():
    net = TinyNet()
    net.register_buffer("kept", torch.zeros(2))
    net.register_buffer("scratch", torch.zeros(2), persistent=False)
    inventory = take_inventory(net)
    assert "kept" in inventory.frozen
    assert list(inventory.unsaved) == ["scratch"]
    packnet = PackNet(net)
    assert "scratch" not in packnet.summary().frozen
    pack(packnet, "a")
    marks = packnet.state_dict()["fingerprints"]["a"]
    assert "kept" in marks
    assert "scratch" not in marks
    packnet.begin_task("b")
    net.kept.add_(1)
    net.scratch.add_(1)
    with pytest.warns(UserWarning, match="is a buffer that its layer changes"):
        packnet.restore_()
    assert net.kept.tolist() == [0, 0]
    assert net.scratch.tolist() == [0, 0]


def test_a_buffer_that_no_file_knows_may_be_another_one_when_no_task_is_open():
    net = TinyNet()
    net.register_buffer("scratch", torch.zeros(2), persistent=False)
    packnet = PackNet(net)
    pack(packnet, "a")
    net.scratch = torch.ones(5, dtype=torch.float64)
    packnet.verify()
    pack(packnet, "b")
    assert net.scratch.tolist() == [1] * 5


# What each task has for itself.


class Everything(nn.Module):
    """Norms, biases and buffers of many kinds."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.bn = nn.BatchNorm2d(2)
        self.group = nn.GroupNorm(1, 2)
        self.attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
        self.lstm = nn.LSTM(2, 3, 1)
        self.table = nn.Embedding(2, 2)
        self.bias = nn.Parameter(torch.zeros(1))
        self.norm_scale = nn.Parameter(torch.zeros(1))
        self.register_buffer("relative_bias", torch.zeros(2))
        self.bn.register_buffer("scratch", torch.zeros(2), persistent=False)


NORMS = {
    *(f"bn.{key}" for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked", "scratch")),
    "group.weight",
    "group.bias",
}
BIASES = {
    "bias",
    "conv.bias",
    "attention.in_proj_bias",
    "attention.out_proj.bias",
    "attention.bias_k",
    "attention.bias_v",
    "lstm.bias_ih_l0",
    "lstm.bias_hh_l0",
    "relative_bias",
}


@pytest.mark.parametrize("own_norms", [False, True])
@pytest.mark.parametrize("own_biases", [False, True])
def test_norms_and_biases_are_each_task_s_own_if_that_is_asked_for(own_norms, own_biases):
    net = Everything()
    inventory = take_inventory(net, own_norms=own_norms, own_biases=own_biases)
    assert set(inventory.per_task) == (NORMS if own_norms else set()) | (BIASES if own_biases else set())
    assert list(inventory.owned) == [
        "conv.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
    ]
    assert list(inventory.unsaved) == ([] if own_norms else ["bn.scratch"])
    sorted_in = [*inventory.owned, *inventory.frozen, *inventory.per_task, *inventory.unsaved]
    assert sorted(sorted_in) == sorted(name for name, _ in [*net.named_parameters(), *net.named_buffers()])


def test_a_slot_has_the_tensor_that_stands_there_now():
    layer = nn.Linear(2, 2)
    layer.register_buffer("count", torch.zeros(1))
    weight, count = Slot(layer, "weight", True, True), Slot(layer, "count", False, True)
    assert weight.now is layer.weight
    layer.weight, layer.count = nn.Parameter(torch.zeros(2, 2)), torch.ones(1)
    assert weight.now is layer.weight
    assert count.now is layer.count
    assert weight == Slot(layer, "weight", True, True)
    assert weight != Slot(nn.Linear(2, 2), "weight", True, True)


def test_slots_are_those_of_all_parameters_and_then_all_buffers_under_every_name():
    net = TinyNet()
    net.again = net.fc
    net.nothing = nn.Linear(2, 2, bias=False)
    net.register_buffer("scratch", torch.zeros(1), persistent=False)
    found = list(slots_of(net))
    assert [name for name, _ in found] == [
        *(f"{layer}.{key}" for layer in ("conv", "bn", "fc") for key in ("weight", "bias")),
        "nothing.weight",
        "scratch",
        *(f"bn.{key}" for key in ("running_mean", "running_var", "num_batches_tracked")),
    ]
    net.other = nn.Sequential(nn.Linear(1, 1))
    net.other[0].weight = net.nothing.weight
    names = {name for name, place in slots_of(net) if place.now is net.nothing.weight}
    assert names == {"nothing.weight", "other.0.weight"}


def test_sharded_and_quantized_tensors_are_refused_wherever_they_stand():
    net = TinyNet()
    for layer in (net.fc, net.bn):
        for key, parameter in list(layer.named_parameters()):
            setattr(layer, key, nn.Parameter(TwoTensor(parameter.detach(), parameter.detach().clone())))
    inventory = take_inventory(net)
    assert set(inventory.refused) == {"fc.weight", "fc.bias", "bn.weight", "bn.bias"}
    with pytest.raises(
        ValueError, match=r"'cubs': parameter bn\.weight is refused: it is a TwoTensor \(sharded or quant"
    ):
        PackNet(net).begin_task("cubs")
