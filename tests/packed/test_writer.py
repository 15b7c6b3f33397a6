"""A file that was written from docs/format.md alone is one that load_packed reads."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from packnet_pl import load_packed, save_packed
from tests.support import independent_reader as independent
from tests.support import independent_writer

TASKS = {"ab": 2, "auto": 3, "кириллица": 4}


def entry(name, classes):
    return {
        "name": name,
        "num_classes": classes,
        "class_names": [f"{name} {number}" for number in range(classes)],
        "input_shape": [1, 8, 8],
        "mean": [0.5],
        "std": [0.25],
        "preparation": None,
        "ratio": None,
        "accuracy": None,
    }


def norm_of(rng, channels):
    return {
        "weight": rng.random(channels, np.float32) + 0.5,
        "bias": rng.standard_normal(channels, np.float32),
        "running_mean": rng.standard_normal(channels, np.float32),
        "running_var": rng.random(channels, np.float32) + 0.5,
        "num_batches_tracked": np.array(3),
    }


def answer(images, state, head):
    """Computes as the page says vgg_small does, with stages [[4], [6]]."""
    state = {name: torch.from_numpy(np.asarray(array)) for name, array in state.items()}
    for conv in (0, 4):
        norm = [state[f"features.{conv + 1}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        images = functional.conv2d(images, state[f"features.{conv}.weight"], padding=1)
        images = functional.max_pool2d(functional.relu(functional.batch_norm(images, *norm)), 2)
    images = functional.linear(images.flatten(1), state["classifier.0.weight"], state["classifier.0.bias"])
    return functional.linear(functional.relu(images), *map(torch.from_numpy, head))


@pytest.mark.parametrize("kept", ["shared", "per_task"])
def test_a_file_written_from_the_page_alone_answers_as_the_page_says(tmp_path, kept):
    rng, path = np.random.default_rng(0), tmp_path / "written.safetensors"
    norms = {
        f"features.{place}.{key}": value
        for place, channels in ((1, 4), (5, 6))
        for key, value in norm_of(rng, channels).items()
    }
    shared = {**norms, "classifier.0.bias": rng.standard_normal(8, np.float32)}
    shapes = {"features.0.weight": (4, 1, 3, 3), "features.4.weight": (6, 4, 3, 3), "classifier.0.weight": (8, 24)}
    owners = {name: rng.choice(4, shape, p=[0.1, 0.5, 0.3, 0.1]).astype(np.uint8) for name, shape in shapes.items()}
    owners["features.0.weight"][:] = 1  # one owner: no bytes
    owners["classifier.0.weight"] *= owners["classifier.0.weight"] != 2  # a task without weights here
    weights = {n: rng.standard_normal(s, np.float32) * (owners[n] != 0) for n, s in shapes.items()}
    heads = [(rng.standard_normal((n, 8), np.float32), rng.standard_normal(n, np.float32)) for n in TASKS.values()]
    copies = []
    if kept == "per_task":
        copies = [{n: v + number if v.dtype == np.float32 else v for n, v in shared.items()} for number in range(3)]
    independent_writer.write(
        path,
        backbone={"name": "vgg_small", "arguments": {"image_size": 8, "stages": [[4], [6]], "hidden": 8}},
        tasks=[entry(name, classes) for name, classes in TASKS.items()],
        shared=shared,
        weights=weights,
        owners=owners,
        heads=heads,
        copies=copies,
        norm=kept,
        bias=kept,
    )
    net = load_packed(path)
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert net.tasks == list(TASKS)
    for number, task in enumerate(TASKS):
        state = dict(shared, **(copies[number] if copies else {}))
        state |= {name: weight * (owners[name] <= number + 1) for name, weight in weights.items()}
        assert net(images, task=task).shape == (4, TASKS[task])
        assert torch.equal(net(images, task=task), answer(images, state, heads[number]))
        assert torch.equal(net.standalone(task)(images), net(images, task=task))
        found = independent.subnetwork(*independent.read(path), task)
        assert all(np.array_equal(found[name], value) for name, value in state.items())
    save_packed(net, tmp_path / "again.safetensors")
    again = load_packed(tmp_path / "again.safetensors")
    assert all(torch.equal(again(images, task=task), net(images, task=task)) for task in TASKS)
