import json
import shutil

import pytest
import yaml

from packnet_pl.cli.evaluate import evaluate as packnet_eval
from tests.support.commands import last_line, run
from tests.support.packed_files import rewritten

pytestmark = pytest.mark.slow


def evaluate(*arguments, cwd):
    return run("packnet-eval", *arguments, cwd=cwd)


def add(path, name, value):
    """Adds ``value`` to one number of one tensor of a packed file."""

    def change(header, tensors):
        tensors[name].view(-1)[0] += value
        return header

    rewritten(path, path, change)


@pytest.fixture
def moved(tiny_run, tmp_path):
    return shutil.copytree(tiny_run[0], tmp_path / "moved elsewhere")


def test_the_packed_file_agrees_with_the_results_wherever_the_run_was_moved(moved, tmp_path):
    done = evaluate("moved elsewhere", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("unchanged") == 8
    assert done.stdout.count(" yes ") == 4


def test_a_wrong_accuracy_in_the_results_is_noticed(moved, tmp_path):
    path = moved / "results.json"
    found = json.loads(path.read_text())
    found["accuracy"][-1][2] += 0.25
    path.write_text(json.dumps(found))
    done = evaluate(moved, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.count(" yes ") == 3
    assert done.stdout.count(" NO ") == 1


def test_a_head_that_was_changed_is_noticed_by_its_logits(moved, tmp_path):
    path = moved / "packed.safetensors"
    add(path, "heads/1/bias", 1e-3)
    done = evaluate(moved, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.count(" NO ") == 1


def test_a_shared_weight_that_was_changed_is_named(moved, tmp_path):
    path = moved / "packed.safetensors"
    add(path, "values/classifier.0.weight", 1.0)
    done = evaluate(moved, cwd=tmp_path)
    assert done.returncode == 2
    assert "classifier.0.weight is not what it was" in last_line(done.stderr)
    assert "Traceback" not in done.stderr


def test_a_byte_that_was_changed_is_named_by_its_tensor(moved, tmp_path):
    path = moved / "packed.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = evaluate(moved, cwd=tmp_path)
    assert done.returncode == 2
    assert "is not what was written: its checksum is another" in last_line(done.stderr)


@pytest.mark.parametrize("name", ["results.json", "packed.safetensors", "run.yaml"])
def test_a_missing_file_is_named(moved, tmp_path, name):
    (moved / name).unlink()
    done = evaluate(moved, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert name in done.stderr


@pytest.mark.parametrize("name", ["results.json", "packed.safetensors", "tasks/latin/probe.safetensors"])
def test_a_truncated_file_is_named(moved, tmp_path, name):
    path = moved / name
    path.write_bytes(path.read_bytes()[:100])
    done = evaluate(moved, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert name in done.stderr


def test_a_task_of_which_nothing_is_here_is_not_said_to_agree(moved, capsys):
    """As in a run that goes on from a packed file: only the figures of its old tasks are here."""
    for name in ("latin", "greek"):
        (moved / "tasks" / name / "probe.safetensors").unlink()
    results, run = json.loads((moved / "results.json").read_text()), (moved / "run.yaml").read_text()
    results["outputs_unchanged"][:2] = [None, None]
    (moved / "results.json").write_text(json.dumps(results))
    saved = yaml.safe_load(run)
    saved["config"]["sequence"]["finished"] = ["latin"]
    del saved["config"]["sequence"]["tasks"]["latin"]
    (moved / "run.yaml").write_text(yaml.safe_dump(saved))
    assert packnet_eval(moved)
    done = capsys.readouterr()
    assert (done.out.count("not compared"), done.out.count(" yes ")) == (1, 3)
    assert last_line(done.err).startswith("packnet-eval: not compared: latin (")

    saved["config"]["sequence"] |= {"finished": ["latin", "greek", "cyrillic", "digits"], "tasks": {}}
    (moved / "run.yaml").write_text(yaml.safe_dump(saved))
    results["outputs_unchanged"] = [None] * 4
    (moved / "results.json").write_text(json.dumps(results))
    assert not packnet_eval(moved)  # exit code 1: nothing was compared
    done = capsys.readouterr()
    assert (done.out.count("not compared"), done.out.count(" yes ")) == (4, 0)


def test_a_folder_that_is_no_run_is_said(tmp_path):
    done = evaluate("nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("packnet-eval: nowhere is not a run directory")
