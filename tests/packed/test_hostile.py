"""Whatever is in a file: a ValueError in one line, and never a crash, a hang or gigabytes."""

import json
import resource
import struct
import subprocess
import sys
import time
import zlib

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from packnet_pl import load_packed, save_packed
from packnet_pl.models import Preparation, backbone_skeleton, build_backbone
from packnet_pl.packed import fit_statistics, read_packed
from tests.support.independent_reader import reseal, rewrite
from tests.support.packed_models import images, packed_model

BOUNDED = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hostile") / "packed.safetensors"
    features = torch.randn(12, 8)
    statistics = {"latin": fit_statistics(features, torch.arange(12) % 3, features)}
    history = [{"task": {"name": "latin"}}]
    save_packed(packed_model(norm="per_task"), path, history=history, statistics=statistics)
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
        assert said.isprintable()
        assert len(said.replace(str(path), "")) < 220
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
    "images of terabytes": lambda h: h.update(
        backbone={"name": "torchvision", "arguments": {"name": "vit_b_16", "image_size": 16 << 40}}
    ),
    "deep": lambda h: h["backbone"]["arguments"].update(stages=[[1]] * 100_000),
    "classes without end": lambda h: h["tasks"][0].update(num_classes=1 << 50, class_names=[]),
    "classes that the head has not": lambda h: h["tasks"][0].update(num_classes=1 << 19, class_names=[]),
    "large images": lambda h: h["tasks"][0].update(input_shape=[1, 1 << 40, 1 << 40]),
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


# What the page decides, one by one.


def spoil(path):
    """Changes the last byte, which is one of a tensor: if tensors were read, it is that what would be said."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_tensor_that_is_not_what_was_written_is_named(path):
    spoil(path)
    assert "owners/features.4.weight is not what was written" in refused(path)


def test_tensors_that_belong_to_nothing_are_refused_unread(path):
    content = path.read_bytes()
    for name in (
        "copies/3/features.0.weight",
        "copies/00/features.1.weight",
        "copies/x",
        "copies/0/more",
        "shared/more",
    ):
        path.write_bytes(content)
        reseal(path, tensors=lambda tensors, name=name: tensors.update({name: torch.zeros(1 << 20)}))
        spoil(path)
        assert name.split("/", 1)[1] in refused(path)
    path.write_bytes(content)
    # Of a network whose tasks share their norms, what single tasks have belongs to nothing.
    reseal(path, header=lambda header: header["packnet"].update(norm="shared"))
    spoil(path)
    assert "is not a tensor that each of its tasks has of its own" in refused(path)


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("heads/1/weight", torch.float64, "the head of task 'caltech 256 v1.5' is float64, with a bias of float32"),
        ("heads/1/bias", torch.int64, "the head of task 'caltech 256 v1.5' is float32, with a bias of int64"),
        ("copies/2/features.1.num_batches_tracked", torch.int32, "copies/2/features.1.num_batches_tracked is not of"),
        ("shared/classifier.0.bias", torch.float64, "and float32 in the network"),
        ("shared/classifier.0.bias", torch.uint8, "classifier.0.bias is uint8 in the file, and float32 in the network"),
        ("copies/1/features.1.weight", torch.float64, "copies/1/features.1.weight is not of the type and shape"),
        ("owners/features.0.weight", torch.int8, "the owners of features.0.weight are no bytes"),
    ],
)
def test_types_are_looked_at_when_the_file_is_opened(path, name, kind, reason):
    reseal(path, tensors=lambda tensors: tensors.update({name: tensors[name].to(kind)}))
    spoil(path)
    assert reason in refused(path)


def test_a_type_of_weights_or_heads_that_is_not_the_networks_is_refused(path):
    content = path.read_bytes()
    reseal(path, header=lambda header: header["weights"]["features.0.weight"].update(dtype="float64"))
    assert "float64" in refused(path)
    path.write_bytes(content)

    def halve(tensors):
        tensors.update({name: tensor.half() for name, tensor in tensors.items() if name.startswith("heads/")})

    reseal(path, tensors=halve)
    assert "its heads are float16, and the network is float32" in refused(path)


@pytest.mark.parametrize("name", ["values/features.0.weight", "heads/2/weight", "heads/0/bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_or_head_that_is_not_finite_is_refused_and_not_written(path, name, value, tmp_path):
    reseal(path, tensors=lambda tensors: tensors[name].view(-1)[-1:].fill_(value))
    assert f"{name} holds NaN or infinity" in refused(path)


def test_a_head_that_is_not_finite_is_not_saved(tmp_path):
    model = packed_model()
    with torch.no_grad():
        model.heads["latin"].bias[0] = float("nan")
    model.packnet.load_state_dict(model.packnet.state_dict() | {"private_fingerprints": {}})
    with pytest.raises(ValueError, match=r"cannot save .*heads/0/bias holds NaN or infinity"):
        save_packed(model, tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


def test_values_that_the_type_of_the_network_cannot_hold_are_refused(path):
    reseal(
        path,
        tensors=lambda tensors: tensors["values/features.0.weight"].fill_(1e30),
        header=lambda header: [layer.update(dtype="float16") for layer in header["weights"].values()] and None,
    )
    with pytest.raises(ValueError, match=r"values/features\.0\.weight holds NaN or infinity"):
        read_packed(path)


def test_bits_that_fill_up_a_plane_are_zero_and_one_stream_is_all(path):
    content, name = path.read_bytes(), "owners/features.0.weight"
    for change in (
        lambda planes: zlib.compress(planes[:4] + bytes([planes[4] | 1]) + planes[5:]),  # 36 bits in 5 bytes
        lambda planes: zlib.compress(planes) + b"x",
        lambda planes: zlib.compress(planes) + zlib.compress(b""),
        lambda planes: zlib.compress(planes + b"\0"),
        lambda planes: zlib.compress(planes[:-1]),
        lambda planes: zlib.compress(planes)[:-1],
    ):
        path.write_bytes(content)
        reseal(
            path,
            tensors=lambda tensors, change=change: tensors.update(
                {name: torch.frombuffer(bytearray(change(zlib.decompress(tensors[name].numpy()))), dtype=torch.uint8)}
            ),
        )
        assert "owners cannot be decoded" in refused(path)


def test_a_task_called_auto_is_a_task_like_others(tmp_path):
    save_packed(packed_model(tasks={"auto": 2, "b": 3}), tmp_path / "packed.safetensors")
    net = load_packed(tmp_path / "packed.safetensors")
    assert net(images(), task="auto").shape == (5, 2)


LONG, MARKS = "x" * 1_000_000, "a\x1b[2Jb\n\u202ec"


@pytest.mark.parametrize(
    "text", [LONG, MARKS, "\ud800", "", " ", "\u2028"], ids=["long", "marks", "half", "", " ", "ls"]
)
@pytest.mark.parametrize(
    "change",
    {
        "task": lambda h, t: h["tasks"][0].update(name=t),
        "class": lambda h, t: h["tasks"][0]["class_names"].__setitem__(0, t),
        "backbone": lambda h, t: h["backbone"].update(name=t),
        "argument": lambda h, t: h["backbone"]["arguments"].update({t: 1}),
        "weight": lambda h, t: h["weights"].update({t: {}}),
        "alias": lambda h, t: h["aliases"].update({t: "features.0.weight"}),
        "checksum": lambda h, t: h["checksums"].update({t: "float32:00"}),
        "type": lambda h, t: h["weights"]["features.0.weight"].update(dtype=t),
        "norm": lambda h, t: h["packnet"].update(norm=t),
        "key": lambda h, t: h.update({t: 1}),
    }.values(),
    ids=lambda _: "",
)
def test_names_that_are_long_blank_or_full_of_control_characters_are_refused_in_a_short_line(path, change, text):
    reseal(path, header=lambda header: change(header, text))
    assert refused(path)


def test_two_classes_of_one_name_are_refused_in_format_2_and_told_apart_in_format_1(path):
    content = path.read_bytes()
    reseal(path, header=lambda h: h["tasks"][0].update(class_names=["crane", "crane", "crane (2)"]))
    assert "classes 0 and 1 are both called 'crane'" in refused(path)
    path.write_bytes(content)

    def older(header):
        header.update(format=1)
        header["tasks"][0].update(class_names=["crane", "crane", "crane (2)"])
        header["tasks"][1].update(class_names=["a\nb", "x" * 10_000])
        for task in header["tasks"]:
            task["resize"] = task.pop("preparation")  # null

    reseal(path, header=older)
    net = load_packed(path)
    assert net.info("latin").class_names == ("crane", "crane (3)", "crane (2)")
    assert net.info("caltech 256 v1.5").class_names == ("a\\x0ab", "class 1")
    save_packed(net, path)
    assert load_packed(path).info("latin") == net.info("latin")


@pytest.mark.parametrize("value", [10**400, -(10**400), 1.0, True, -1, "1", None, [1], 1e308, -0.0])
@pytest.mark.parametrize("at", ["num_classes", "preparation", "ratio", "accuracy", "mean", "counts", "shape", "format"])
def test_numbers_that_are_none_or_too_large_are_refused(path, at, value):
    def change(header):
        if at in ("counts", "shape"):
            header["weights"]["features.0.weight"][at][0] = value
        elif at == "format":
            header[at] = value
        else:
            header["tasks"][0][at] = [value] if at == "mean" else value

    reseal(path, header=change)
    good = {"preparation": [None], "ratio": [None, -0.0], "accuracy": [1.0, None, -0.0], "mean": [1.0, -1, -0.0]}
    assert (refused(path) is None) == any(type(value) is type(ok) and value == ok for ok in good.get(at, []))


@pytest.mark.parametrize(
    ("change", "reason"),
    {
        "metadata": (lambda t: t["__metadata__"].update(format="pt"), "its metadata are"),
        "overlap": (lambda t: t["checksum"].update(data_offsets=[0, 16]), "do not begin where others end"),
        "huge": (lambda t: t["checksum"].update(shape=[10**400]), "has the shape"),
        "true": (lambda t: t["checksum"].update(shape=[True] * 4), "has the shape"),
        "float": (lambda t: t["checksum"].update(shape=[16.0]), "has the shape"),
        "negative": (lambda t: t["checksum"].update(shape=[-4, -4]), "has the shape"),
        "dimensions": (lambda t: t["checksum"].update(shape=[16, *[1] * 8]), "has the shape"),
        "backwards": (lambda t: t["checksum"].update(data_offsets=[16, 0]), "does not fit into the bytes"),
        "type": (lambda t: t["checksum"].update(dtype="F4"), "is of the type 'F4'"),
        "no list": (lambda t: t["checksum"].update(shape={}), "has the shape"),
        "more": (lambda t: t["checksum"].update(more=1), "is not dtype, shape and data_offsets"),
        "a control character": (lambda t: t.update({"a\n": t.pop("checksum")}), "the name of a tensor is"),
        "another size": (lambda t: t["checksum"].update(shape=[8]), "does not fit into the bytes"),
    }.values(),
    ids=lambda _: "",
)
def test_a_table_that_is_not_exact_is_refused(path, change, reason):
    rewrite(path, change)
    assert reason in refused(path)


@pytest.mark.parametrize("change", [lambda t: b" " + t[:-1], lambda t: t + b" ", lambda t: t + b"\t" * 8])
def test_the_text_of_the_table_is_as_the_page_says(path, change):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    text = change(content[8 : 8 + length] + b" " * 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    assert "its table is not JSON from { to }" in refused(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h["backbone"]["arguments"].update(in_channels=True), "argument in_channels of the backbone is True"),
        (lambda h: h["backbone"]["arguments"].update(stages=[[{"a": 1}]]), "argument stages of the backbone is [["),
        (lambda h: h["packnet"].update(owners=1), "has owners, which are tensors"),
        (lambda h: h["packnet"]["private"].update(latin=["a\x1b[2J"]), "a name in private is 'a\\x1b[2J'"),
        (lambda h: h["packnet"]["private"].update(latin="x"), "private in its header has 'x'; allowed is a list"),
        (lambda h: h["packnet"]["private_fingerprints"].update(latin={"x" * 2000: ""}), "a name in private_fingerpri"),
    ],
)
def test_what_nothing_reads_is_of_its_kind_too(path, change, reason):
    reseal(path, header=change)
    assert reason in refused(path)


def test_a_key_that_comes_twice_is_refused(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    table = content[8 : 8 + length].strip()
    for twice in (
        b'{"checksum":{},' + table[1:],
        table.replace(b'{\\"format\\": 3,', b'{\\"format\\":3,\\"format\\":3,'),
    ):
        assert twice != table
        twice += b" " * (-len(twice) % 8)
        path.write_bytes(struct.pack("<Q", len(twice)) + twice + content[8 + length :])
        assert "twice" in refused(path)


COSTS = {
    "5 M empty lists": '{"a":[' + "[]," * 5_000_000 + "[]]}",
    "in escapes": '{"a":"[' + "\\u005b\\u005d," * 1_000_000 + '[]]"}',
    "2 M objects": '{"a":[' + '{"b":0},' * 2_000_000 + "[]]}",
    "5 M numbers": '{"a":[' + "0.1," * 3_000_000 + "0]}",
    "wide characters": '{"a":"' + "\U0001f600" + "x" * 16_000_000 + '"}',
    "100,000 empty tensors": json.dumps(
        {
            "__metadata__": {"packnet_pl": "{}"},
            **{f"{number:x}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(100_000)},
        }
    ),
    "a long number": '{"a":0.' + "1" * 16_000_000 + "}",
    "a longer number": '{"a":' + "1" * 16_000_000 + "}",
    "depth": '{"a":' + "[" * 200_000 + "]" * 200_000 + "}",
}


@pytest.mark.parametrize("place", ["table", "header"])
@pytest.mark.parametrize("text", COSTS.values(), ids=list(COSTS))
def test_a_header_that_would_cost_seconds_or_hundreds_of_megabytes_is_refused_early(tmp_path, text, place):
    path = tmp_path / "packed.safetensors"
    if place == "header":
        # Escaped by hand: what stands in the text as an escape stays one.
        text = '{"__metadata__":{"packnet_pl":"' + text.replace('"', '\\"') + '"}}'
    content = text.encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert refused(path)
    assert time.process_time() - began < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


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


def test_the_header_is_the_only_metadata_that_is_written(path):
    """Of several entries the order is another each time: two equal networks would give different bytes."""
    with safe_open(path, framework="numpy") as file:
        assert list(file.metadata()) == ["packnet_pl"]
