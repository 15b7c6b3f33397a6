"""The embedded sequences whose domains differ, and of eight tasks."""

import json

import pytest

from tests.support.warm import run

pytestmark = pytest.mark.slow


def test_the_far_sequence_runs_and_keeps_what_it_learned(tmp_path):
    done = run("packnet-train", "sequence=far", "debug=tiny", "hydra.run.dir=far", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "far" / "results.json").read_text(encoding="utf-8"))
    tasks = found["tasks"]
    assert [task["name"] for task in tasks] == ["latin", "digits", "greek_inverted", "spectro"]
    assert [task["num_classes"] for task in tasks] == [37, 10, 31, 16]
    assert [task["test_size"] for task in tasks] == [185, 120, 155, 160]
    assert tasks[3]["class_names"][:2] == ["tone", "two tones"]
    assert found["complete"] is True
    assert found["outputs_unchanged"] == [True] * 4
    assert found["forgetting"] == [0.0] * 4


@pytest.mark.exhaustive
def test_eight_tasks_run_and_keep_what_they_learned(tmp_path):
    done = run("packnet-train", "sequence=eight", "debug=tiny", "hydra.run.dir=eight", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "eight" / "results.json").read_text(encoding="utf-8"))
    tasks = {task["name"]: (task["num_classes"], task["test_size"]) for task in found["tasks"]}
    assert list(tasks.items())[4:] == [
        ("armenian", (38, 190)),
        ("georgian", (33, 165)),
        ("symbols", (33, 165)),
        ("spectro", (16, 160)),
    ]
    assert found["complete"] is True
    assert found["outputs_unchanged"] == [True] * 8
    assert found["forgetting"] == [0.0] * 8
