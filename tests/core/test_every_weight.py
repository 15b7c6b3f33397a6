"""Every weight that multiplies activations is divided among tasks, whatever the layer; what is not is named."""

import warnings

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from packnet_pl.core import PackNet, PruneRule, Role, is_weight, role_of
from packnet_pl.core.prunable import RULES
from tests.support.tiny import bits, same_bits

D = 8


class Call(nn.Module):
    """Makes a layer take one tensor and return one."""

    def __init__(self, layer, call):
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, x):
        return self.call(self.layer, x)


class Raw(nn.Module):
    """Projections as XLNet has them, and experts stacked in one parameter, as Mixtral has them."""

    def __init__(self):
        super().__init__()
        self.q = nn.Parameter(torch.randn(D, 2, D // 2))
        self.gate_up_proj = nn.Parameter(torch.randn(3, D, D))
        self.gate_up_proj_bias = nn.Parameter(torch.zeros(3, D))

    def forward(self, x):
        heads = torch.einsum("nd,dhe->nhe", x, self.q).flatten(1)
        return (torch.einsum("nd,kde->nke", heads, self.gate_up_proj) + self.gate_up_proj_bias).sum(1)


class CondConv(nn.Module):
    """As timm's: the kernels of all experts are the rows of one parameter, mixed for each image."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, D * D))
        self.bias = nn.Parameter(torch.zeros(3, D))
        self.route = nn.Linear(D, 3)

    def forward(self, x):
        share = self.route(x).sigmoid()
        kernels = (share @ self.weight).view(-1, D, D, 1)
        out = F.conv1d(x.reshape(1, -1, 1), kernels.flatten(0, 1), groups=len(x))
        return out.view(len(x), D) + share @ self.bias


def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(nn.Linear(D, D))


def transformers_conv1d():
    from transformers.pytorch_utils import Conv1D

    return Conv1D(D, D)


def weights(*names):
    return {f"0.layer.{name}" for name in names}


def attend(layer, x):
    return layer(*[x.unsqueeze(1)] * 3)[0].squeeze(1)


def recur(layer, x):
    return layer(x.unsqueeze(1))[0].squeeze(1)


LAYERS = {
    "packed attention": (lambda: nn.MultiheadAttention(D, 2), attend, weights("in_proj_weight", "out_proj.weight")),
    "separate attention": (
        lambda: nn.MultiheadAttention(D, 2, kdim=D, vdim=4),
        lambda layer, x: layer(*[x.unsqueeze(1)] * 2, x[:, :4].unsqueeze(1))[0].squeeze(1),
        weights("q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"),
    ),
    "encoder layer": (
        lambda: nn.TransformerEncoderLayer(D, 2, 16, dropout=0.0, batch_first=True),
        lambda layer, x: layer(x.unsqueeze(0)).squeeze(0),
        weights("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"),
    ),
    "LSTM": (lambda: nn.LSTM(D, D), recur, weights("weight_ih_l0", "weight_hh_l0")),
    "LSTM of one number": (
        lambda: nn.LSTM(1, D),
        lambda layer, x: layer(x[:, :1].unsqueeze(1))[0].squeeze(1),
        weights("weight_ih_l0", "weight_hh_l0"),
    ),
    "LSTM, projected, both ways": (
        lambda: nn.LSTM(D, D, proj_size=4, bidirectional=True),
        recur,
        weights(*(f"weight_{kind}_l0{way}" for way in ("", "_reverse") for kind in ("ih", "hh", "hr"))),
    ),
    "GRU": (lambda: nn.GRU(D, D), recur, weights("weight_ih_l0", "weight_hh_l0")),
    "RNN": (lambda: nn.RNN(D, D), recur, weights("weight_ih_l0", "weight_hh_l0")),
    "GRU cell": (lambda: nn.GRUCell(D, D), lambda layer, x: layer(x, x), weights("weight_ih", "weight_hh")),
    "bilinear": (lambda: nn.Bilinear(D, D, D), lambda layer, x: layer(x, x), weights("weight")),
    "weight norm": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(D, D)),
        lambda layer, x: layer(x),
        weights("parametrizations.weight.original1"),
    ),
    "weight norm by hooks": (old_weight_norm, lambda layer, x: layer(x), weights("weight_v")),
    "spectral norm": (
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(D, D)),
        lambda layer, x: layer(x),
        weights("parametrizations.weight.original"),
    ),
    "Conv1D of transformers": (transformers_conv1d, lambda layer, x: layer(x), weights("weight")),
    "raw projections and experts": (Raw, lambda layer, x: layer(x), weights("q", "gate_up_proj")),
    "mixed kernels": (CondConv, lambda layer, x: layer(x), weights("weight", "route.weight")),
}


@pytest.fixture(params=LAYERS, ids=lambda name: name.replace(" ", "-"))
def case(request):
    torch.manual_seed(0)
    make, call, owned = LAYERS[request.param]
    return nn.Sequential(Call(make(), call), nn.LazyLinear(5)), owned


def loop(packnet, steps=3):
    net = packnet.module
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=0.1)
    net.train()
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(6, D)).square().mean().backward()
        packnet.mask_gradients_()
        optimizer.step()
        packnet.restore_()


def test_later_tasks_train_it_and_earlier_ones_keep_every_bit(case):
    net, owned = case
    probe = torch.randn(6, D)
    net(probe)
    packnet = PackNet(net)
    assert set(packnet.summary().owned) == owned | {"1.weight"}
    packnet.begin_task("a")
    loop(packnet)
    packnet.prune(0.5)
    loop(packnet)
    net.eval()
    with torch.no_grad():
        before = net(probe)
    packnet.finish_task()
    packnet.begin_task("b")
    start = {name: packnet.module.get_parameter(name).detach().clone() for name in owned}
    loop(packnet)
    packnet.finish_task()
    for name in owned:
        moved = bits(net.get_parameter(name)) != bits(start[name])
        assert moved.any(), f"{name} stood still"
        assert not moved[packnet.owners[name] == 1].any()
    net.eval()
    with packnet.subnetwork("a"), torch.no_grad():
        assert same_bits(net(probe), before)
    packnet.verify()


UNITS = {
    "packed attention": 2,
    "separate attention": 2,
    "encoder layer": 2,
    "LSTM": 8,
    "LSTM of one number": 8,
    "GRU": 8,
    "RNN": 8,
    "GRU cell": 8,
    "bilinear": 8,
    "Conv1D of transformers": 8,
}


@pytest.mark.parametrize("name", UNITS)
def test_whole_filters_of_every_known_kind_can_be_released(name):
    make, call, owned = LAYERS[name]
    net = nn.Sequential(Call(make(), call), nn.LazyLinear(6))
    net(torch.randn(6, D))
    packnet = PackNet(net)
    packnet.begin_task("a")
    packnet.prune(0.5, granularity="filter")
    found = sorted(owned)[0]
    owner = packnet.owners[found]
    assert int((owner == 0).sum()) == owner.numel() // 2
    layer = net[0].layer
    if name == "packed attention":  # a head is its rows of query, key and value
        heads = owner.reshape(3, 2, D // 2, D).transpose(0, 1).flatten(1)
        assert sorted(head.unique().tolist() for head in heads) == [[0], [1]]
    if name == "LSTM":  # a hidden unit is its row of each gate
        units = owner.reshape(4, D, -1).transpose(0, 1).flatten(1)
        assert sum(unit.unique().tolist() == [0] for unit in units) == D // 2
        assert all(len(unit.unique()) == 1 for unit in units)
    if name == "Conv1D of transformers":
        assert all(len(column.unique()) == 1 for column in owner.T)
        silent = layer(torch.randn(3, D)) == layer.bias
        assert int(silent.all(0).sum()) == D // 2


@pytest.mark.parametrize("name", ["raw projections and experts", "weight norm", "mixed kernels"])
def test_filters_of_a_weight_whose_outputs_are_unknown_are_refused_before_anything_is_done(name):
    make, call, _ = LAYERS[name]
    packnet = PackNet(Call(make(), call))
    packnet.begin_task("a")
    before = packnet.owners
    with pytest.raises(ValueError, match=r"the filters of layer\..* are not known: .*use granularity='weight'"):
        packnet.prune(0.5, rule=PruneRule(granularity="filter"))
    assert packnet.phase == "train"
    assert all(torch.equal(owner, packnet.owners[name]) for name, owner in before.items())


# What is not owned.


class Odd(nn.Module):
    def __init__(self, parameter, key="gate"):
        super().__init__()
        self.fc = nn.Linear(D, D)
        self.register_parameter(key, nn.Parameter(parameter))


def test_the_first_parameter_of_each_unknown_kind_is_named_with_its_share():
    net = nn.Sequential(*(Odd(torch.ones(D)) for _ in range(3)), Odd(torch.ones(2, 2, dtype=torch.complex64), "filter"))
    with pytest.warns(UserWarning, match=r"does not know whether these multiply") as found:
        packnet = PackNet(net)
    (text,) = [str(warning.message) for warning in found]
    assert "0.gate (Odd, torch.float32 (8,), and 2 more like it: 7.59% of all parameters)" in text
    assert "3.filter (Odd, torch.complex64 (2, 2): 1.27% of all parameters)" in text
    assert "prunable=lambda name, module, parameter" in text
    assert found[0].filename == __file__
    assert {"0.gate", "3.filter"} <= set(packnet.summary().frozen)


@pytest.mark.parametrize(
    ("key", "shape", "role"),
    [
        ("anything", (D, D), Role.WEIGHT),
        ("kernel", (3, D, 1), Role.WEIGHT),
        ("weight", (1, D), Role.WEIGHT),
        ("pos_embed", (1, D, D), Role.TABLE),
        ("position_embeddings", (D, D), Role.TABLE),
        ("relative_position_bias_table", (D, D), Role.BIAS),
        ("rel_pos_h", (D, D), Role.TABLE),
        ("cls_token", (1, 1, D), Role.TABLE),
        ("pos_embed_window", (1, D, 4, 4), Role.TABLE),
        ("embed_proj_weight", (D, D), Role.WEIGHT),
        ("embedding_to_hidden", (D, D), Role.UNKNOWN),
        ("token_mixing", (D, D), Role.UNKNOWN),
        ("latents", (4, D), Role.UNKNOWN),
        ("height_rel", (4, D), Role.UNKNOWN),
        ("rel_weight", (4, D, D), Role.WEIGHT),
        ("W_pos", (D, D), Role.UNKNOWN),
        ("to_tokens", (D, D), Role.UNKNOWN),
        ("w_pos", (D,), Role.TABLE),
        ("bias", (D, D), Role.BIAS),
        ("gate_up_proj_bias", (3, D), Role.BIAS),
        ("bias_ih_l0", (D,), Role.BIAS),
        ("bias_proj", (D, D), Role.WEIGHT),
        ("bias_proj", (D,), Role.BIAS),
        ("attention_biases", (D, D), Role.BIAS),
        ("gamma", (D,), Role.SCALE),
        ("weight_g", (D, 1), Role.SCALE),
        ("gate", (D,), Role.UNKNOWN),
        ("gate", (1, D, 1), Role.UNKNOWN),
    ],
)
def test_a_parameter_of_a_user_s_own_is_told_by_its_shape_and_name(key, shape, role):
    assert role_of(f"some.layer.{key}", nn.Module(), torch.empty(shape)) is role


class NormedLinear(nn.Module):
    """A weight in a class that is called a norm."""


class QuantEmbedding(nn.Module):
    """A table in a class of its own."""


def test_a_class_name_says_norm_of_vectors_only_and_embedding_is_asked_about():
    assert role_of("weight", NormedLinear(), torch.empty(4, 4)) is Role.WEIGHT
    assert role_of("weight", NormedLinear(), torch.empty(4)) is Role.NORM
    assert role_of("weight", QuantEmbedding(), torch.empty(4, 4)) is Role.UNKNOWN
    assert role_of("weight", nn.Embedding(4, 4), torch.empty(4, 4)) is Role.TABLE
    assert role_of("weight", nn.LayerNorm((4, 4)), torch.empty(4, 4)) is Role.NORM
    assert role_of("weight", nn.PReLU(4), torch.empty(4)) is Role.SCALE


def test_a_parameter_that_could_not_be_divided_anyhow_is_named_without_advice():
    with pytest.warns(UserWarning, match=r"0\.filter \(Odd, torch\.complex64 \(2, 2\): 5\.26% of all") as found:
        PackNet(nn.Sequential(Odd(torch.ones(2, 2, dtype=torch.complex64), "filter")))
    assert "lambda" not in str(found[0].message)


def test_no_warning_names_norms_biases_tables_or_scales():
    net = nn.Sequential(nn.Embedding(9, D), nn.LayerNorm(D), nn.Linear(D, D), nn.PReLU(D), old_weight_norm())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PackNet(net)


def test_all_divides_tables_too_and_a_word_s_row_belongs_to_the_task_that_trained_it():
    net = nn.Sequential(nn.Embedding(6, D), nn.Flatten(), nn.Linear(2 * D, 3))
    packnet = PackNet(net, prunable="all")
    assert packnet.summary().owned == ("0.weight", "2.weight")
    packnet.begin_task("a")
    words = torch.tensor([[0, 1], [1, 2]])
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    net(words).square().sum().backward()
    packnet.mask_gradients_()
    optimizer.step()
    packnet.prune(0.5)
    packnet.finish_task()
    before = net[0].weight.detach().clone()
    packnet.begin_task("b")
    optimizer.zero_grad()
    net(torch.tensor([[2, 5]])).square().sum().backward()
    packnet.mask_gradients_()
    optimizer.step()
    packnet.restore_()
    moved = bits(net[0].weight) != bits(before)
    assert bool((packnet.owners["0.weight"][:3] == 1).all())
    assert moved[5].all()
    assert not moved[packnet.owners["0.weight"] == 1].any()


def words_net(**given):
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(20, D, **given), nn.Flatten(), nn.Linear(2 * D, 3))


def read(packnet, words, steps=3, make=torch.optim.AdamW):
    optimizer = make(packnet.module.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        packnet.module(words).square().sum().backward()
        packnet.mask_gradients_()
        optimizer.step()
        packnet.restore_()


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("resumed", [False, True])
def test_rows_of_words_that_a_task_never_saw_are_given_up_first(scope, sparse, resumed):
    net = words_net(sparse=sparse)
    with torch.no_grad():
        net[0].weight[:6].mul_(0.01)  # what is trained is small, and what is not large
    packnet = PackNet(net, prunable="all")
    packnet.begin_task("a")
    read(packnet, torch.tensor([[0, 1], [2, 3]]), make=torch.optim.SGD)
    if resumed:
        state = packnet.state_dict()
        packnet = PackNet(net, prunable="all")
        packnet.load_state_dict(state)
        packnet.resume_task()
    read(packnet, torch.tensor([[4, 5]]), make=torch.optim.SGD)
    packnet.prune(0.5, scope=scope)
    owner = packnet.owners["0.weight"]
    assert bool((owner[:6] == 1).all())
    free = sum(int((owner == 0).sum()) for owner in packnet.owners.values())
    assert free == (round(0.5 * 160) + round(0.5 * 48) if scope == "layer" else round(0.5 * 208))
    left = net[0].weight[6:].abs().detach()
    assert left[owner[6:] == 1].numel() == 160 - 48 - int((owner == 0).sum())
    if scope == "layer":  # of the rest, the smallest went
        torch.manual_seed(0)
        before = words_net()[0].weight[6:].abs().detach()
        assert before[owner[6:] == 0].max() <= before[owner[6:] == 1].min()
    assert "trained_rows" not in packnet.state_dict()


def test_trained_rows_go_too_if_the_others_do_not_suffice_and_a_second_task_s_words_are_free():
    packnet = PackNet(words_net(), prunable="all")
    packnet.begin_task("a")
    read(packnet, torch.tensor([[number, number + 10] for number in range(9)]))
    packnet.prune(0.75)
    owner = packnet.owners["0.weight"]
    assert not owner[[9, 19]].any()
    assert int((owner == 0).sum()) == 120
    packnet.finish_task()
    packnet.begin_task("b")
    read(packnet, torch.tensor([[9, 19]]))
    packnet.prune(0.5)
    assert bool((packnet.owners["0.weight"][[9, 19]] == 2).all())


def test_filters_of_a_table_are_rows_and_those_never_seen_go_first():
    packnet = PackNet(words_net(), prunable="all")
    packnet.begin_task("a")
    read(packnet, torch.tensor([[0, 1], [2, 3]]))
    packnet.prune(0.8, granularity="filter")
    assert packnet.owners["0.weight"].any(1).tolist() == [True] * 4 + [False] * 16


@pytest.mark.parametrize(
    "rows", [{"0.weight": torch.ones(3, dtype=torch.bool)}, {"x": torch.ones(20)}, {"0.weight": 3}]
)
def test_rows_that_are_none_of_its_tables_are_refused(rows):
    packnet = PackNet(words_net(), prunable="all")
    packnet.begin_task("a")
    with pytest.raises(ValueError, match="is no table whose rows its open task trains"):
        packnet.load_state_dict({**packnet.state_dict(), "trained_rows": rows})


def test_a_table_that_its_layer_changes_in_each_pass_cannot_be_divided():
    packnet = PackNet(nn.Sequential(nn.Embedding(6, D, max_norm=1.0), nn.Linear(D, D)), prunable="all")
    with pytest.raises(
        ValueError, match=r"0\.weight is refused: Embedding\(max_norm=1\.0\) changes it in each forward"
    ):
        packnet.begin_task("a")


def begun_twice(net, **given):
    packnet = PackNet(net, **given)
    packnet.begin_task("a")
    packnet.prune(0.5)
    packnet.finish_task()
    packnet.begin_task("b")
    return packnet


def test_the_second_task_says_once_what_can_no_longer_move_and_names_the_three_largest():
    net = nn.Sequential(
        nn.Embedding(40, D), nn.Embedding(30, D), nn.Embedding(20, D), nn.Embedding(10, D), nn.Linear(D, D)
    )
    with pytest.warns(UserWarning, match="task 'b' and later ones cannot change") as found:
        packnet = begun_twice(net)
    (text,) = [str(warning.message) for warning in found]
    assert "cannot change 92.66% of the parameters" in text
    assert "0.weight (36.70%), 1.weight (27.52%), 2.weight (18.35%); " in text
    assert "3.weight" not in text
    assert found[0].filename == __file__
    packnet.finish_task()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        packnet.begin_task("c") if packnet.summary().total.free else None


def test_a_tenth_may_stand_still_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        begun_twice(nn.Linear(20, 20))


# Rules: names, functions, and states that record them.


@pytest.mark.parametrize("wrong", ["weight", "conv", None, 3, ["weights"]])
def test_an_unknown_rule_is_refused_with_those_there_are(wrong):
    with pytest.raises(ValueError, match=r"prunable is .*; allowed are \['weights', 'paper', 'all'\], or a function"):
        PackNet(nn.Linear(2, 2), prunable=wrong)


@pytest.mark.parametrize("old", [lambda name, module: True, lambda name: True, lambda: True])
def test_a_function_of_the_old_form_is_refused_by_name_with_the_new_form(old):
    def narrowed(name, module):
        return name != "0"

    with pytest.raises(
        ValueError, match=r"prunable is 'narrowed', which does not take .*lambda name, module, parameter"
    ):
        PackNet(nn.Linear(2, 2), prunable=narrowed)
    with pytest.raises(ValueError, match=r"the name is the parameter's, such as 'conv1\.weight'"):
        PackNet(nn.Linear(2, 2), prunable=old)


def attention():
    torch.manual_seed(1)
    return nn.Sequential(nn.MultiheadAttention(D, 2), nn.Linear(D, D))


@pytest.mark.parametrize("prunable", RULES)
@pytest.mark.parametrize("here", RULES)
def test_a_state_is_loaded_by_the_rule_it_was_made_with(prunable, here):
    packnet = begun_twice(attention(), prunable=prunable)
    loaded = PackNet(packnet.module, prunable=here)
    loaded.load_state_dict(packnet.state_dict())
    assert loaded.owners.keys() == packnet.owners.keys()
    assert loaded.state_dict()["prunable"] == prunable
    loaded.prune(0.5)
    loaded.finish_task()


def only_out(name, module, parameter):
    return name == "0.out_proj.weight"


def test_what_a_function_chose_is_known_without_it():
    packnet = begun_twice(attention(), prunable=only_out)
    for loaded in (PackNet(packnet.module), PackNet(packnet.module, prunable=only_out)):
        loaded.load_state_dict(packnet.state_dict())
        assert list(loaded.owners) == ["0.out_proj.weight"]
        loaded.finish_task()
        loaded.verify()


def test_a_function_does_not_take_the_place_of_a_recorded_rule():
    state = begun_twice(attention()).state_dict()
    with pytest.raises(ValueError, match=r"made with prunable='weights', and this PackNet with a function: make it"):
        PackNet(attention(), prunable=only_out).load_state_dict(state)


def before_rules(packnet):
    """As version 0.1 wrote a state."""
    state = packnet.state_dict()
    del state["prunable"]
    return {**state, "format": 2}


def test_a_state_from_before_the_rules_means_the_paper_s_and_says_once_what_stays_frozen():
    packnet = begun_twice(attention(), prunable="paper")
    loaded = PackNet(packnet.module)
    with pytest.warns(UserWarning, match="trained with prunable='paper', which stays: 1 parameter tensor") as found:
        loaded.load_state_dict(before_rules(packnet))
    assert len(found) == 1
    assert "0.in_proj_weight first" in str(found[0].message)
    assert "0.in_proj_weight" in loaded.summary().frozen
    loaded.finish_task()
    loaded.verify()


def test_a_state_from_before_the_rules_that_a_function_narrowed_needs_that_function():
    packnet = begun_twice(attention(), prunable=only_out)
    state = before_rules(packnet)
    with pytest.raises(ValueError, match="belongs to another network: 1 parameter without owners"):
        PackNet(packnet.module).load_state_dict(state)
    loaded = PackNet(packnet.module, prunable=only_out)
    loaded.load_state_dict(state)
    loaded.finish_task()


def test_nothing_is_said_of_a_state_that_its_rule_fits():
    packnet = begun_twice(nn.Linear(20, 20), prunable="paper")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PackNet(packnet.module).load_state_dict(before_rules(packnet))


def test_the_summary_has_the_share_of_all_parameters_that_later_tasks_can_use():
    net = nn.Sequential(nn.Embedding(10, D), nn.Linear(D, D))
    summary = PackNet(net).summary()
    assert (summary.parameters, summary.usable) == (152, 64 / 152)
    assert PackNet(net, prunable="all").summary().usable == 144 / 152
    assert PackNet(net, prunable="all", bias="per_task").summary().usable == 1.0
    assert "usable by later tasks: 42.11% of all 152 parameters" in str(summary)


def test_the_default_rule_can_be_narrowed_and_widened():
    net = nn.Sequential(nn.Embedding(10, D), nn.Linear(D, D), nn.Linear(D, D))
    narrowed = PackNet(net, prunable=lambda name, *given: is_weight(name, *given) and name != "1.weight")
    assert list(narrowed.owners) == ["2.weight"]
    widened = PackNet(net, prunable=lambda name, *given: is_weight(name, *given) or name == "0.weight")
    assert list(widened.owners) == ["0.weight", "1.weight", "2.weight"]


# What is loaded says nothing anew.


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.gate = nn.Linear(20, 20), nn.Parameter(torch.ones(20))


@pytest.mark.parametrize("prunable", [*RULES, lambda name, module, parameter: name == "fc.weight"])
def test_a_state_that_is_read_from_a_file_brings_its_rule_without_a_word(prunable, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packnet = begun_twice(Gated(), prunable=prunable)
    torch.save({"packnet": packnet.state_dict()}, tmp_path / "last.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = PackNet.from_checkpoint(packnet.module, tmp_path / "last.ckpt")
    assert loaded.state_dict()["prunable"] == (prunable if isinstance(prunable, str) else "function")


def test_a_state_with_no_rule_where_there_should_be_one_is_refused():
    state = {**begun_twice(nn.Linear(20, 20)).state_dict(), "prunable": None}
    with pytest.raises(ValueError, match="prunable is None; allowed are 'weights', 'paper' and 'all'"):
        PackNet(nn.Linear(20, 20)).load_state_dict(state)


def test_another_function_than_the_state_was_made_with_is_named_as_the_cause():
    packnet = begun_twice(attention(), prunable=only_out)
    with pytest.raises(ValueError, match="or prunable is another function than it was made with: 1 parameter without"):
        PackNet(packnet.module, prunable=lambda name, *_: name in {"0.out_proj.weight", "1.weight"}).load_state_dict(
            packnet.state_dict()
        )


class Lists(nn.Module):
    """Parameters that are called by the list that they are in."""

    def __init__(self):
        super().__init__()
        self.projections = nn.ParameterList([torch.randn(D, D), torch.randn(D, D)])
        self.biases = nn.ParameterList([torch.randn(D), torch.randn(3, D)])
        self.pos_embeds = nn.ParameterDict({"text": torch.randn(4, D)})
        self.gates = nn.ParameterList([torch.ones(D), torch.ones(D)])


def test_parameters_in_a_list_go_by_its_name():
    with pytest.warns(UserWarning, match="does not know") as found:
        packnet = PackNet(Lists())
    assert list(packnet.owners) == ["projections.0", "projections.1"]
    (text,) = [str(warning.message) for warning in found]
    assert "task: gates.0 (ParameterList, torch.float32 (8,), and 1 more like it: 7.69% of all parameters); to" in text


def test_no_way_to_divide_it_is_offered_for_what_cannot_be_divided():
    with pytest.warns(UserWarning, match=r"of all parameters\)$"):
        PackNet(Odd(torch.ones(2, 2, dtype=torch.complex64)))


def test_what_is_never_trained_is_not_said_to_stand_still():
    net = nn.Sequential(nn.Embedding(10, D, _freeze=True), nn.Linear(20, 20), Odd(torch.ones(D)))
    net[2].gate.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        begun_twice(net)
    net[2].gate.requires_grad_(True)
    with pytest.warns(UserWarning, match="2.gate"):
        PackNet(net)
