"""The script that compares two commits sees each bit that differs in a packed file, and nothing else in it."""

import importlib.util
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.support import ROOT

RESULTS = {"accuracy": [[0.5]], "tasks": [{"name": "a", "val_accuracy": {"dense": 0.5}, "seconds": 1.0}]}
TENSORS = {
    "values/w": np.zeros(4, np.float32),
    "owners/w": np.zeros(8, np.uint8),
    "checksum": np.zeros(16, np.uint8),
}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("compare_versions", ROOT / "benchmarks" / "compare_versions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_directory(folder, *, tensors=TENSORS, results=RESULTS, file_format=2):
    folder.mkdir()
    save_file(tensors, folder / "packed.safetensors", {"packnet_pl": json.dumps({"format": file_format})})
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def changed(name, value):
    return {**TENSORS, name: value}


@pytest.mark.parametrize(
    "tensors",
    [
        changed("values/w", np.array([0, 0, 0, -0.0], np.float32)),
        changed("values/w", np.zeros(4, np.int32)),
        changed("values/w", np.zeros((2, 2), np.float32)),
        changed("values/x", np.zeros(0, np.float32)),
        {name: TENSORS[name] for name in ("values/w", "checksum")},
    ],
    ids=["one bit", "type", "shape", "one more", "one less"],
)
def test_a_tensor_that_differs_is_named(script, tmp_path, tensors):
    old = script.outcome(run_directory(tmp_path / "old"))
    new = script.outcome(run_directory(tmp_path / "new", tensors=tensors))
    (line,) = script.differences(old, new)
    assert line.split(": ")[0] in ("tensor values/w", "tensor values/x", "tensor owners/w")
    assert old.hash() != new.hash()


def test_accuracies_are_compared(script, tmp_path):
    other = {"accuracy": [[0.5]], "tasks": [{"name": "a", "val_accuracy": {"dense": 0.25}, "seconds": 1.0}]}
    old = script.outcome(run_directory(tmp_path / "old"))
    new = script.outcome(run_directory(tmp_path / "new", results=other))
    (line,) = script.differences(old, new)
    assert line.startswith("val_accuracy")
    assert old.hash() == new.hash()


def test_the_format_its_checksum_and_seconds_are_not(script, tmp_path):
    other = json.loads(json.dumps(RESULTS).replace("1.0", "2.0"))
    old = script.outcome(run_directory(tmp_path / "old", file_format=1))
    tensors = changed("checksum", np.ones(16, np.uint8))
    new = script.outcome(run_directory(tmp_path / "new", tensors=tensors, results=other))
    assert script.differences(old, new) == []
    assert old.hash() == new.hash()
