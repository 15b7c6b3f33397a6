"""Whatever is in a file: a ValueError in one line, and never a crash, a hang or gigabytes."""

import json
import struct
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from independent import reseal
from safetensors import safe_open
from safetensors.torch import load_file
from test_packed import packed_model

from packnet_pl import load_packed, save_packed
from packnet_pl.models import Preparation, backbone_skeleton, build_backbone

BOUNDED = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hostile") / "packed.safetensors"
    save_packed(packed_model(norm="per_task"), path, history=[{"task": {"name": "latin"}}])
    return path.read_bytes()


@pytest.fixture
def path(content, tmp_path):
    (tmp_path / "packed.safetensors").write_bytes(content)
    return tmp_path / "packed.safetensors"


def refused(path):
    """Loads it; returns what was said, or None if it is a good file."""
    said = None
    try:
        load_packed(path)
    except ValueError as error:
        said = str(error)
    if said is not None:
        assert str(path) in said
        assert len(said.splitlines()) == 1
        assert len(said) < 1000
    return said


@BOUNDED
@given(data=st.data())
def test_no_flipped_byte_passes(content, path, data):
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = content[place] ^ data.draw(st.integers(1, 255))
    path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
    assert refused(path)


@BOUNDED
@given(data=st.data())
def test_no_truncated_or_lengthened_file_passes(content, path, data):
    size = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:size])
    assert refused(path)
    path.write_bytes(content + content[:size] + b"x")
    assert refused(path)


@BOUNDED
@given(st.binary(max_size=300))
def test_no_bytes_at_all_pass(path, content):
    path.write_bytes(content)
    assert refused(path)
    path.write_bytes(struct.pack("<Q", len(content)) + content)
    assert refused(path)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.just([]),
    st.just({}),
    st.just([1 << 40, 1 << 40]),
    st.just([[[[]]]]),
    st.lists(st.integers(-1, 300), max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)


def places(node, at=()):
    """Every place in nested dicts and lists."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield (*at, key)
        yield from places(child, (*at, key))


@settings(BOUNDED, max_examples=120)
@given(data=st.data())
def test_a_header_with_anything_anywhere_and_right_checksums_is_read_or_refused(content, path, data):
    path.write_bytes(content)

    def change(header):
        at = data.draw(st.sampled_from(list(places(header))), label="place")
        parent = header
        for key in at[:-1]:
            parent = parent[key]
        if data.draw(st.booleans(), label="delete"):
            del parent[at[-1]]
        else:
            parent[at[-1]] = data.draw(VALUES, label="value")

    reseal(path, header=change)
    refused(path)


@settings(BOUNDED, max_examples=60)
@given(data=st.data())
def test_tensors_of_any_shape_and_type_with_right_checksums_are_read_or_refused(content, path, data):
    path.write_bytes(content)
    name = data.draw(st.sampled_from(sorted(load_file(path))), label="tensor")
    shape = data.draw(st.lists(st.integers(0, 6), max_size=4), label="shape")
    kind = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool]))
    fill = data.draw(st.sampled_from([0, 1, 255]))
    reseal(path, tensors=lambda tensors: tensors.update({name: torch.full(shape, fill).to(kind)}))
    refused(path)


ATTACKS = {
    "a terabyte of weights": lambda h: h["weights"]["classifier.0.weight"].update(
        shape=[1 << 20, 1 << 20], counts=[1 << 40, 0, 0, 0]
    ),
    "a network of terabytes": lambda h: h["backbone"]["arguments"].update(hidden=1 << 40),
    "a network of gigabytes": lambda h: h["backbone"]["arguments"].update(
        hidden=1 << 19, stages=[[1 << 19], [1 << 19]]
    ),
    "another network of gigabytes": lambda h: h.update(
        backbone={"name": "timm", "arguments": {"name": "vit_giant_patch14_clip_224"}}
    ),
    "wide": lambda h: h.update(backbone={"name": "torchvision", "arguments": {"name": "vgg16", "width": 1e5}}),
    "wider than numbers": lambda h: h.update(backbone={"name": "resnet20", "arguments": {"width": 1e300}}),
    "pictures of terabytes": lambda h: h.update(
        backbone={"name": "torchvision", "arguments": {"name": "vit_b_16", "image_size": 16 << 40}}
    ),
    "deep": lambda h: h["backbone"]["arguments"].update(stages=[[1]] * 100_000),
    "classes without end": lambda h: h["tasks"][0].update(num_classes=1 << 50, class_names=[]),
    "classes that the head has not": lambda h: h["tasks"][0].update(num_classes=1 << 19, class_names=[]),
    "large pictures": lambda h: h["tasks"][0].update(input_shape=[1, 1 << 40, 1 << 40]),
    "images of another shape": lambda h: h["tasks"][0].update(preparation=Preparation("RGB", (8, 8), 9).dump()),
    "a shorter side without end": lambda h: h["tasks"][0].update(
        preparation=Preparation("L", tuple(h["tasks"][0]["input_shape"][1:]), 1 << 40).dump()
    ),
    "an unknown preparation": lambda h: h["tasks"][0].update(preparation={"resize": "squash"}),
    "a preparation that is a number": lambda h: h["tasks"][0].update(preparation=24),
    "mean": lambda h: h["tasks"][0].update(mean=["0.5"]),
    "std": lambda h: h["tasks"][0].update(std=[0]),
    "the same task twice": lambda h: h["tasks"][1].update(name="latin"),
    "a name that leaves the folder": lambda h: h["tasks"][0].update(name="../../latin"),
    "a network from a hub": lambda h: h.update(
        backbone={"name": "timm", "arguments": {"name": "hf-hub:someone/something"}}
    ),
    "weights from elsewhere": lambda h: h["backbone"]["arguments"].update(pretrained="/etc/passwd"),
    "aliases that go round": lambda h: h.update(aliases={"a": "b", "b": "a"}),
    "a bomb of owners": lambda h: h["weights"]["classifier.0.weight"].update(
        shape=[1 << 28], counts=[1 << 28, 0, 0, 0]
    ),
}

SCRIPT = """
import resource, sys
import packnet_pl.packed, torch
torch.set_num_threads(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
spare = 600_000_000
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 4 * spare, used + 4 * spare))
for path in sys.argv[1:]:
    try:
        packnet_pl.packed.load_packed(path)
        print("read", path)
    except ValueError as error:
        print("refused", error)
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_nothing_that_a_header_asks_for_is_given_before_it_is_looked_at(content, path, tmp_path):
    paths = []
    for number, change in enumerate(ATTACKS.values()):
        target = tmp_path / f"{number}.safetensors"
        reseal(path, header=lambda header, change=change: change(header), target=target)
        paths.append(target)
    for name, begin in {"length": 1 << 62, "length_of_the_limit": 1 << 25}.items():
        paths.append(tmp_path / f"{name}.safetensors")
        paths[-1].write_bytes(struct.pack("<Q", begin) + content[8:])
    nested = json.dumps({"__metadata__": {"packnet_pl": "[" * 1_000_000}}).encode()
    paths.append(tmp_path / "nested.safetensors")
    paths[-1].write_bytes(struct.pack("<Q", len(nested)) + nested)
    command = [sys.executable, "-c", SCRIPT, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    *lines, peak = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["refused"] * len(paths), done.stdout
    # In KiB; what there is comes from importing torchvision and timm.
    assert int(peak.split()[1]) < 600_000


def test_the_limit_of_growth_is_one_that_good_files_keep(tmp_path):
    """A single task that owns 1 in 200 weights of a network: as empty as files come."""
    model = packed_model(tasks={})
    model.add_task("a", num_classes=2)
    model.packnet.begin_task("a")
    model.packnet.prune(0.995)
    model.packnet.finish_task()
    save_packed(model, tmp_path / "packed.safetensors")
    assert load_packed(tmp_path / "packed.safetensors").tasks == ["a"]


@pytest.mark.parametrize(
    "builder",
    [
        {"name": "vgg_small", "arguments": {"image_size": 8}},
        {"name": "resnet20", "arguments": {"width": 0.5}},
        {"name": "torchvision", "arguments": {"name": "resnet18", "width": 0.25, "image_size": 32}},
        {"name": "torchvision", "arguments": {"name": "vit_b_32", "width": 0.1, "image_size": 64}},
        {"name": "torchvision", "arguments": {"name": "convnext_tiny", "width": 0.1}},
        {"name": "torchvision", "arguments": {"name": "vgg11_bn", "width": 0.1}},
        {"name": "timm", "arguments": {"name": "efficientnet_b0"}},
        {"name": "timm", "arguments": {"name": "swin_tiny_patch4_window7_224"}},
    ],
)
def test_a_skeleton_is_the_network_without_its_memory(builder):
    before = torch.get_rng_state()
    skeleton = backbone_skeleton(build_backbone, builder)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(tensor.device.type == "meta" for tensor in skeleton.values())
    expected = build_backbone(builder).state_dict()
    assert {name: (t.shape, t.dtype) for name, t in skeleton.items()} == {
        name: (t.shape, t.dtype) for name, t in expected.items()
    }


def test_the_header_is_the_only_metadata(path):
    """Of several entries the order is another each time: two equal networks would give different bytes."""
    with safe_open(path, framework="numpy") as file:
        assert list(file.metadata()) == ["packnet_pl"]
