import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from packnet_pl.core.freezing import Freezer
from packnet_pl.core.slots import Slot
from tests.support.tiny import RunningCentre, bits, boxed, same_bits

FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
WILD = [1.5, -0.0, 0.0, math.inf, -math.inf, math.nan, -1e-45, 3.0]

LAYOUTS = {
    "contiguous": lambda tensor: tensor.contiguous(),
    "channels_last": lambda tensor: tensor.contiguous(memory_format=torch.channels_last),
    "transposed": lambda tensor: tensor.transpose(0, 1).contiguous().transpose(0, 1),
    "strided": lambda tensor: torch.stack([tensor, tensor], dim=-1)[..., 0],
}


class Watched(Freezer):
    """Returns the names of the buffers that were restored because a layer had changed them."""

    def __init__(self, slots, trainable=None):
        self.slots, self.told = dict(slots), []
        owners = {name: torch.where(mine, 2, 1).byte() for name, mine in (trainable or {}).items()}
        super().__init__(lambda: self.slots, owners, 2, on_written=lambda slots: self.told.extend(slots))

    def restore_(self, of=None):
        self.told.clear()
        super().restore_(of)
        return list(self.told)

    def restore_buffers_(self):
        self.told.clear()
        super().restore_buffers_()
        return list(self.told)

    def restore_all_(self):
        self.told.clear()
        super().restore_all_()
        return list(self.told)


def freeze_entries(weight, trainable):
    """Freezes the entries of one weight that are not trainable."""
    return Watched(boxed(w=weight)[1], {"w": trainable})


def freeze_whole(**given):
    """Freezes parameters and buffers whole; returns the freezer and the module that has them."""
    box, slots = boxed(**given)
    return Watched(slots), box


def weight_and_mask(shape=(4, 3, 2, 2), dtype=torch.float32):
    return nn.Parameter(torch.randn(shape).to(dtype)), torch.rand(shape) < 0.5


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradients_of_held_weights_become_exactly_zero_whatever_they_were(dtype):
    weight = nn.Parameter(torch.ones(2, len(WILD), dtype=dtype))
    trainable = torch.zeros(2, len(WILD), dtype=torch.bool)
    trainable[1] = True
    weight.grad = torch.tensor([WILD, WILD], dtype=dtype)
    before = weight.grad.clone()
    freeze_entries(weight, trainable).mask_gradients_()
    assert same_bits(weight.grad[0], torch.zeros(len(WILD), dtype=dtype))
    assert same_bits(weight.grad[1], before[1])


@given(st.lists(st.tuples(st.floats(width=32), st.booleans()), min_size=1, max_size=30))
def test_masking_keeps_the_bits_of_trainable_gradients_and_clears_all_others(pairs):
    grads, trainable = torch.tensor([grad for grad, _ in pairs]), torch.tensor([mine for _, mine in pairs])
    weight = nn.Parameter(torch.zeros(len(pairs)))
    weight.grad = grads.clone()
    freeze_entries(weight, trainable).mask_gradients_()
    assert same_bits(weight.grad[trainable], grads[trainable])
    assert not bits(weight.grad[~trainable]).any()


@given(st.lists(st.tuples(st.floats(width=32), st.floats(width=32), st.booleans()), min_size=1, max_size=30))
def test_restoring_gives_held_weights_their_bits_and_leaves_the_others(triples):
    frozen, moved = torch.tensor([old for old, _, _ in triples]), torch.tensor([new for _, new, _ in triples])
    trainable = torch.tensor([mine for _, _, mine in triples])
    weight = nn.Parameter(frozen.clone())
    freezer = freeze_entries(weight, trainable)
    with torch.no_grad():
        weight.copy_(moved)
    assert freezer.restore_() == []
    assert same_bits(weight[~trainable], frozen[~trainable])
    assert same_bits(weight[trainable], moved[trainable])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("grad_layout", LAYOUTS)
@pytest.mark.parametrize("weight_layout", LAYOUTS)
def test_any_memory_layout_of_weight_and_gradient_is_frozen_in_place(weight_layout, grad_layout, dtype):
    weight, trainable = weight_and_mask(dtype=dtype)
    weight = nn.Parameter(LAYOUTS[weight_layout](weight.detach()))
    frozen, strides = weight.detach().clone(), weight.stride()
    freezer = freeze_entries(weight, trainable)

    grad = LAYOUTS[grad_layout](torch.randn(weight.shape).to(dtype))
    weight.grad = grad
    expected = torch.where(trainable, grad, torch.zeros((), dtype=dtype))
    freezer.mask_gradients_()
    assert weight.grad is grad
    assert torch.equal(grad, expected)

    with torch.no_grad():
        weight.add_(1)
    expected = torch.where(trainable, weight, frozen).detach()
    freezer.restore_()
    assert weight.stride() == strides
    assert same_bits(weight, expected)


def test_tensors_that_are_fixed_whole_get_no_gradient_and_their_values_back():
    freezer, box = freeze_whole(bias=nn.Parameter(torch.tensor([-0.0, 1.0])), count=torch.tensor(3))
    box.bias.grad = torch.tensor([math.nan, math.inf])
    with torch.no_grad():
        box.bias.add_(1)
        box.count.add_(1)
    freezer.mask_gradients_()
    freezer.restore_()
    assert same_bits(box.bias.grad, torch.zeros(2))
    assert same_bits(box.bias, torch.tensor([-0.0, 1.0]))
    assert box.count.item() == 3


def test_tensors_without_a_gradient_are_passed_over():
    weight, trainable = weight_and_mask()
    box, slots = boxed(w=weight, b=nn.Parameter(torch.ones(1)))
    Watched(slots, {"w": trainable}).mask_gradients_()
    assert box.w.grad is None
    assert box.b.grad is None


def test_weights_that_may_move_everywhere_are_left_alone():
    weight = nn.Parameter(torch.ones(3))
    freezer = freeze_entries(weight, torch.ones(3, dtype=torch.bool))
    weight.grad = torch.tensor([math.nan, math.inf, 1.0])
    before = weight.grad.clone()
    with torch.no_grad():
        weight.add_(1)
    version = weight._version
    freezer.mask_gradients_()
    freezer.restore_()
    assert same_bits(weight.grad, before)
    assert weight.tolist() == [2, 2, 2]
    assert weight._version == version


def test_a_clipped_norm_counts_only_what_may_move():
    weight = nn.Parameter(torch.zeros(4))
    freezer = freeze_entries(weight, torch.tensor([True, True, False, False]))
    weight.grad = torch.tensor([3.0, 4.0, 100.0, math.inf])
    freezer.mask_gradients_()
    assert nn.utils.clip_grad_norm_([weight], 1.0).item() == 5.0


# Which tensors are written to.


def two_weights():
    """Two layers, a bias and a buffer, of which half of the weights and all of the rest are frozen."""
    box, slots = boxed(
        first=nn.Parameter(torch.randn(3, 2)),
        second=nn.Parameter(torch.randn(2, 3)),
        bias=nn.Parameter(torch.randn(2)),
        scale=torch.randn(2),
    )
    weights = [slots[name].now for name in ("first", "second")]
    frozen = [torch.arange(6).reshape(weight.shape) % 2 == 0 for weight in weights]
    return Watched(slots, {"first": ~frozen[0], "second": ~frozen[1]}), box


def forward(box, x):
    return ((x @ box.first.T).tanh() @ box.second.T + box.bias).tanh() * box.scale


def versions(box):
    return {name: tensor._version for name, tensor in [*box.named_parameters(), *box.named_buffers()]}


def values(box):
    return {name: tensor.detach().clone() for name, tensor in [*box.named_parameters(), *box.named_buffers()]}


NAMES = ["first", "second", "bias", "scale"]


@pytest.mark.parametrize("chosen", [[], ["first"], ["second", "bias"], NAMES], ids=", ".join)
def test_only_the_tensors_that_were_stepped_are_written_to(chosen):
    freezer, box = two_weights()
    before = versions(box)
    freezer.restore_(getattr(box, name) for name in chosen)
    assert {name for name, version in versions(box).items() if version != before[name]} == set(chosen)


def test_all_are_written_to_unless_it_is_said_which_were_stepped():
    freezer, box = two_weights()
    before = versions(box)
    freezer.restore_()
    assert all(version != before[name] for name, version in versions(box).items())


def test_with_several_optimizers_a_graph_that_is_still_to_be_used_stays_valid():
    x = torch.randn(4, 2)
    expected = None
    for of_all in (False, True):
        torch.manual_seed(0)
        freezer, box = two_weights()
        optimizer = torch.optim.SGD([box.bias], lr=0.1, weight_decay=0.1)
        # It uses the values of both weights; the step is of another tensor.
        loss = forward(box, x).square().sum()
        box.bias.grad = torch.ones(2)
        optimizer.step()
        box.bias.grad = None
        if of_all:
            freezer.restore_()
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()
        else:
            freezer.restore_([box.bias])
            loss.backward()
            assert box.first.grad.any()
        if expected is None:
            expected = values(box)
        assert all(torch.equal(value, expected[name]) for name, value in values(box).items())


def test_the_half_that_was_not_stepped_is_put_back_all_the_same_if_something_wrote_to_it():
    freezer, box = two_weights()
    before = values(box)
    with torch.no_grad():
        for tensor in (box.first, box.second, box.bias, box.scale):
            tensor.add_(1)
    assert freezer.restore_([box.first]) == ["scale"]
    for name in ("bias", "scale"):
        assert same_bits(getattr(box, name), before[name])
    for name in ("first", "second"):
        moved = torch.arange(6).reshape(before[name].shape) % 2 == 1
        assert same_bits(getattr(box, name), torch.where(moved, before[name] + 1, before[name]))
    # It was put back once: nothing is done again before something writes to it again.
    written = versions(box)
    assert freezer.restore_([]) == []
    assert versions(box) == written
    with torch.no_grad():
        box.second.zero_()
    freezer.restore_([])
    assert {name for name, version in versions(box).items() if version != written[name]} == {"second"}


def test_a_stepped_tensor_is_put_back_also_where_autograd_did_not_see_the_step():
    freezer, box = two_weights()
    before = values(box)
    box.first.data.add_(1)
    box.bias.data.add_(1)
    assert box.first._version == 0
    freezer.restore_([box.first, box.bias])
    frozen = torch.arange(6).reshape(3, 2) % 2 == 0
    assert same_bits(box.first[frozen], before["first"][frozen])
    assert same_bits(box.bias, before["bias"])


def test_a_tensor_that_took_the_place_of_another_is_put_back_although_it_was_not_stepped():
    freezer, box = two_weights()
    before = values(box)
    box.bias = nn.Parameter(torch.zeros(2))
    box.second = nn.Parameter(torch.zeros(2, 3))
    freezer.restore_([])
    assert same_bits(box.bias, before["bias"])
    assert same_bits(box.second, torch.where(torch.arange(6).reshape(2, 3) % 2 == 0, before["second"], 0.0))


# Buffers that layers change.


def test_a_buffer_that_its_layer_replaces_is_put_back_and_named():
    layer = RunningCentre(3)
    freezer = Watched({"mean": Slot(layer, "mean", False, True)})
    first = layer.mean
    layer(torch.randn(4, 3) + 1)
    assert layer.mean is not first
    assert freezer.restore_([]) == ["mean"]
    assert not bits(layer.mean).any()
    assert freezer.restore_all_() == []
    assert freezer.restore_() == []
    layer(torch.randn(4, 3) + 1)
    assert freezer.restore_() == ["mean"]


def test_a_buffer_that_was_replaced_is_not_written_to_as_a_graph_may_need_it():
    freezer, box = freeze_whole(scale=torch.ones(2))
    x = torch.ones(2, requires_grad=True)
    box.scale = torch.tensor([2.0, 3.0])
    loss = (x * box.scale).sum()
    freezer.restore_([])
    assert box.scale.tolist() == [1, 1]
    loss.backward()
    assert x.grad.tolist() == [2, 3]


def test_a_buffer_that_is_written_with_the_values_it_had_is_not_named():
    freezer, box = freeze_whole(kept=torch.tensor([1.0, -0.0]), bias=nn.Parameter(torch.ones(1)))
    box.kept.mul_(1)
    with torch.no_grad():
        box.bias.add_(1)
    assert freezer.restore_all_() == []
    box.kept.mul_(1)
    assert freezer.restore_() == []
    box.kept.abs_()  # from -0.0 to 0.0
    assert freezer.restore_() == ["kept"]
    box.kept.abs_()
    assert freezer.restore_all_() == ["kept"]
    assert same_bits(box.kept, torch.tensor([1.0, -0.0]))


SHAPES_AND_TYPES = {"another shape": torch.zeros(5), "another type": torch.zeros(2, dtype=torch.bfloat16)}


@pytest.mark.parametrize("what", SHAPES_AND_TYPES)
def test_a_saved_buffer_that_a_layer_gave_another_shape_or_type_is_refused_with_what_to_do(what):
    freezer, box = freeze_whole(memory=torch.tensor([1.0, 2.0]))
    box.memory = SHAPES_AND_TYPES[what].clone()
    with pytest.raises(RuntimeError, match=r"^memory was torch\.float32 \(2,\) and is .* now.*persistent=False"):
        freezer.restore_([])
    assert box.memory.shape == SHAPES_AND_TYPES[what].shape
    box.memory = torch.zeros(2)
    freezer.restore_([])
    assert box.memory.tolist() == [1, 2]


def freeze_cache():
    """A buffer that no state dict has, and one that it has."""
    box, slots = boxed(unsaved=["cache"], cache=torch.ones(2), kept=torch.ones(2))
    return Watched(slots), box


@pytest.mark.parametrize("what", SHAPES_AND_TYPES)
def test_a_cache_that_changed_its_shape_or_type_is_left_alone_because_no_file_knows_it(what):
    freezer, box = freeze_cache()
    box.cache = SHAPES_AND_TYPES[what].clone()
    freezer.restore_()
    assert same_bits(box.cache, SHAPES_AND_TYPES[what])
    box.cache = torch.zeros(2)
    freezer.restore_()
    assert box.cache.tolist() == [1, 1]


@pytest.mark.parametrize("what", SHAPES_AND_TYPES)
def test_a_cache_that_was_left_alone_is_not_said_to_have_been_put_back(what):
    freezer, box = freeze_cache()
    box.cache = SHAPES_AND_TYPES[what].clone()
    assert freezer.restore_() == []
    assert freezer.restore_all_() == []
    assert same_bits(box.cache, SHAPES_AND_TYPES[what])


@pytest.mark.parametrize("how", ["set to None", "deleted"])
def test_a_cache_that_its_layer_clears_does_no_harm(how):
    freezer, box = freeze_cache()
    if how == "deleted":
        del box.cache
    else:
        box.cache = None
    box.kept.add_(1)
    freezer.mask_gradients_()
    assert freezer.restore_() == ["kept"]
    assert box.kept.tolist() == [1, 1]
    assert getattr(box, "cache", None) is None
    box.register_buffer("cache", torch.zeros(2), persistent=False)
    freezer.restore_()
    assert box.cache.tolist() == [1, 1]


@pytest.mark.parametrize("how", ["set to None", "deleted"])
def test_a_saved_buffer_that_its_layer_takes_away_is_given_back(how):
    freezer, box = freeze_cache()
    if how == "deleted":
        del box.kept
    else:
        box.kept = None
    assert freezer.restore_([]) == ["kept"]
    assert box.kept.tolist() == [1, 1]
    assert list(box.state_dict()) == ["kept"]


@pytest.mark.parametrize("persistent", [True, False])
def test_a_buffer_that_was_replaced_in_inference_mode_is_put_back(persistent):
    # Lightning validates in inference mode.
    box, slots = boxed(unsaved=[] if persistent else ["mean"], mean=torch.ones(2))
    freezer = Watched(slots)
    with torch.inference_mode():
        box.mean = torch.zeros(2)
    freezer.restore_([])
    assert box.mean.tolist() == [1, 1]
    box.mean.add_(1)
    freezer.restore_([])
    assert box.mean.tolist() == [1, 1]


def test_what_is_taken_and_restored_in_inference_mode_can_be_restored_outside_of_it():
    box, slots = boxed(mean=torch.tensor([1.0, 2.0]), b=nn.Parameter(torch.ones(2)), w=nn.Parameter(torch.ones(2)))
    with torch.inference_mode():
        freezer = Watched(slots, {"w": torch.tensor([True, False])})
    for inside in (True, False, True):
        with torch.no_grad():
            box.b.add_(1)
            box.w.zero_()
        with torch.inference_mode(inside):
            box.mean = torch.zeros(2)
            freezer.restore_()
        assert box.mean.tolist() == [1, 2]
        assert box.b.tolist() == [1, 1]
        assert box.w.tolist() == [0, 1]
        assert not any(tensor.is_inference() for tensor in (box.mean, box.b, box.w))


def test_a_buffer_that_batch_norm_writes_to_is_found_although_its_version_stays():
    freezer, box = freeze_whole(mean=torch.zeros(3), var=torch.ones(3), other=torch.ones(3))

    def moves():
        F.batch_norm(torch.randn(4, 3) + 1, box.mean, box.var, training=True)
        assert box.mean._version == 0 or box.mean.any()
        return box.mean.any().item()

    assert moves()
    assert freezer.changed(sure=True) == ["mean", "var"]
    assert freezer.restore_buffers_() == ["mean", "var"]
    assert freezer.changed(sure=True) == []
    # Later on it does not look, but restores all the same.
    assert moves()
    assert freezer.restore_buffers_() == []
    assert freezer.changed(sure=True) == []
    assert moves()
    before = box.other._version
    assert freezer.restore_all_() == ["mean", "var"]
    assert box.other._version == before
    assert moves()
    freezer.restore_()
    assert freezer.changed(sure=True) == []


BUFFERS = {
    "bool": torch.tensor([True, False, True]),
    "uint8": torch.tensor([1, 2, 255], dtype=torch.uint8),
    "int64 scalar": torch.tensor(2**40 + 1),
    "complex64": torch.tensor([1 + 2j, complex(math.nan, -0.0)]),
    "complex128": torch.tensor([1 + 2j, complex(-0.0, math.inf)], dtype=torch.complex128),
    "float8": torch.tensor([1.0, -0.0]).to(torch.float8_e4m3fn),
    "empty": torch.zeros(0, 3),
    "channels_last": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    "expanded before": torch.ones(1).expand(4).clone(),
    "sparse": torch.eye(3).to_sparse(),
}


@pytest.mark.parametrize("kind", BUFFERS)
@pytest.mark.parametrize("how", ["written", "replaced"])
def test_buffers_of_any_type_are_put_back(kind, how):
    value = BUFFERS[kind]
    freezer, box = freeze_whole(kept=value.clone())
    other = torch.zeros_like(value) if value.layout == torch.strided else (2 * value).coalesce()
    if how == "written":
        box.kept.copy_(other)
    else:
        box.kept = other.clone()
    named = [] if kind == "empty" else ["kept"]
    assert freezer.restore_([]) == named
    assert same_bits(box.kept, value)
    assert box.kept.layout == value.layout
    assert freezer.restore_all_() == []


def test_a_buffer_that_a_layer_expanded_is_put_back():
    # All of its entries are one number in memory, so that it cannot be written to.
    freezer, box = freeze_whole(scale=torch.arange(4.0))
    box.scale = torch.ones(1).expand(4)
    freezer.restore_()
    assert box.scale.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["csr", "coo"])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_a_sparse_parameter_is_put_back(kind):
    value = torch.eye(3).to_sparse() if kind == "coo" else torch.eye(3).to_sparse_csr()
    freezer, box = freeze_whole(adjacency=nn.Parameter(value.clone()))
    with torch.no_grad():
        box.adjacency.mul_(2)
    freezer.restore_([box.adjacency])
    assert torch.equal(box.adjacency.detach().to_dense(), torch.eye(3))
    assert not box._buffers


def test_sparse_gradients_are_masked_too():
    # Those of an embedding that shares its weight with a layer whose weights are divided among tasks.
    table = nn.Embedding(4, 3, sparse=True)
    trainable = torch.arange(12).reshape(4, 3) % 2 == 0
    freezer = freeze_entries(table.weight, trainable)
    table(torch.tensor([0, 3, 3])).sum().backward()
    freezer.mask_gradients_()
    expected = torch.tensor([1.0, 0.0, 0.0, 2.0])[:, None].expand(4, 3) * trainable
    assert table.weight.grad.is_sparse
    assert torch.equal(table.weight.grad.to_dense(), expected)


def test_sparse_gradients_of_what_is_fixed_become_zero():
    table = nn.Embedding(4, 3, sparse=True)
    freezer = Watched({"table": Slot(table, "weight", True, True)})
    table(torch.tensor([0, 3, 3])).sum().backward()
    freezer.mask_gradients_()
    assert not table.weight.grad.to_dense().any()


# Other tensors, types and devices.


def test_tensors_that_took_the_place_of_the_first_ones_are_found_and_restored():
    weight, trainable = weight_and_mask()
    box, slots = boxed(w=weight, b=nn.Parameter(torch.ones(2)), gone=torch.ones(1))
    freezer = Watched(slots, {"w": trainable})
    other, there = boxed(w=nn.Parameter(torch.zeros_like(weight)), b=nn.Parameter(torch.zeros(2)))
    freezer.slots = there
    before = versions(box)
    freezer.restore_all_()
    assert same_bits(other.w, torch.where(trainable, 0, weight).detach())
    assert torch.equal(other.b, box.b)
    assert versions(box) == before


@pytest.mark.parametrize("name", ["w", "b", "mean"])
def test_a_conversion_to_another_type_is_refused_by_name_and_the_old_type_is_welcome_back(name):
    box, slots = boxed(w=nn.Parameter(torch.ones(2, 2)), b=nn.Parameter(torch.ones(2)), mean=torch.ones(2))
    freezer = Watched(slots, {"w": torch.tensor([[True, False], [False, True]])})
    tensor = getattr(box, name)
    tensor.data = tensor.data.double()
    with pytest.raises(RuntimeError, match=rf"{name} was torch\.float32 .* and is torch\.float64 .*convert it back"):
        freezer.restore_()
    assert torch.equal(getattr(box, name), torch.ones_like(tensor))
    tensor.data = (tensor.data + 1).float()
    freezer.restore_()
    expected = torch.tensor([[2.0, 1.0], [1.0, 2.0]]) if name == "w" else torch.ones(2)
    assert torch.equal(getattr(box, name), expected)


@pytest.mark.parametrize("other", [nn.Parameter(torch.zeros(3)), None], ids=["another shape", "none"])
@pytest.mark.parametrize("name", ["w", "b"])
def test_a_parameter_that_was_given_another_shape_or_taken_away_is_refused_by_name(name, other):
    box, slots = boxed(w=nn.Parameter(torch.ones(2)), b=nn.Parameter(torch.ones(2)))
    freezer = Watched(slots, {"w": torch.tensor([True, False])})
    setattr(box, name, other)
    with pytest.raises(RuntimeError, match=name):
        freezer.restore_([])
    assert not box._buffers


def test_a_move_to_the_device_where_it_is_changes_nothing():
    freezer, box = two_weights()
    before = values(box)
    box.to("cpu")
    with torch.no_grad():
        for tensor in (box.first, box.second, box.bias, box.scale):
            tensor.grad = torch.ones_like(tensor)
            tensor.add_(1)
    freezer.mask_gradients_()
    freezer.restore_()
    frozen = torch.arange(6).reshape(3, 2) % 2 == 0
    assert same_bits(box.first[frozen], before["first"][frozen])
    assert not bits(box.first.grad[frozen]).any()
    assert box.first.grad[~frozen].all()
    assert same_bits(box.scale, before["scale"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_what_is_frozen_follows_the_module_to_a_gpu_and_back():
    freezer, box = two_weights()
    before = values(box)
    for device in ("cuda", "cpu"):
        box.to(device)
        with torch.no_grad():
            for tensor in (box.first, box.second, box.bias, box.scale):
                tensor.grad = torch.ones_like(tensor)
                tensor.add_(1)
        freezer.mask_gradients_()
        assert freezer.restore_() == ["scale"]
        frozen = (torch.arange(6).reshape(3, 2) % 2 == 0).to(device)
        assert same_bits(box.first[frozen].cpu(), before["first"][frozen.cpu()])
        assert not bits(box.first.grad[frozen]).any()
        assert same_bits(box.bias.cpu(), before["bias"])
        assert same_bits(box.scale.cpu(), before["scale"])
        assert box.scale.device.type == device


@pytest.mark.parametrize("dtype", FLOATS)
def test_free_entries_are_frozen_at_zero_and_those_of_other_tasks_at_their_bits(dtype):
    weight = nn.Parameter(torch.tensor([WILD] * 4, dtype=dtype))
    before = weight.detach().clone()
    owner = torch.arange(4, dtype=torch.uint8).reshape(4, 1).expand(4, len(WILD))
    freezer = Freezer(lambda: boxed(w=weight)[1], {"w": owner}, 2)
    with torch.no_grad():
        weight.fill_(math.nan)
    freezer.restore_()
    assert not bits(weight[0]).any()
    assert same_bits(weight[[1, 3]], before[[1, 3]])
    assert weight[2].isnan().all()
