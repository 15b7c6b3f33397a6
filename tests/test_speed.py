"""The benchmark as a program: it measures, writes, and notices what has become worse. Its figures are no tests."""

import importlib
import json
import subprocess
import sys

import pytest

from tests.support import ROOT

FOLDER = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def record():
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("speed_rows.record")
    finally:
        sys.path.remove(str(FOLDER))


def speed(*words):
    return subprocess.run([sys.executable, str(FOLDER / "speed.py"), *words], capture_output=True, text=True)


def test_rows_that_are_worse_are_named_and_nothing_is_written(tmp_path, record):
    file = tmp_path / "speed.json"
    record.write(file, {name: record.Figure(1e-6, 0, 1, 9) for name in ("step-vgg16", "step-resnet50")})
    before = file.read_text()
    done = speed("--quick", "--rows", "step-vgg16", "--check", "--json", str(file))
    assert done.returncode == 1, done.stderr
    assert "step-vgg16: " in done.stdout
    assert "step-resnet50" not in done.stdout
    assert file.read_text() == before


def test_a_word_that_names_no_row_gets_one_line():
    done = speed("--rows", "stepp")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("speed.py: error: --rows stepp: no row begins so; there are prune-")


def test_worse_is_a_row_above_fifteen_percent(record):
    def lines(then, now, name="prune-layer"):
        return record.worse({name: record.Figure(then, 0, 0, 1)}, {name: record.Figure(now, 0, 0, 1)})

    assert lines(1.0, 1.14) == []
    assert len(lines(1.0, 1.16)) == 1
    assert lines(3.0, 2.6, "images") == []
    assert len(lines(3.0, 2.5, "images")) == 1
    assert lines(-5.0, 9.0, "callback") == []  # microseconds of noise, where 100 are to be reached
    assert len(lines(90.0, 106.0, "callback")) == 1


def test_quartiles_of_samples(record):
    assert record.figure_of([4.0, 1.0, 2.0, 3.0, 5.0]) == record.Figure(3.0, 2.0, 4.0, 5)
    assert record.figure_of([7.0]) == record.Figure(7.0, 7.0, 7.0, 1)


def test_rows_of_another_machine_are_not_mixed(tmp_path, record):
    file = tmp_path / "speed.json"
    record.write(file, {"ddp": record.Figure(1.0, 1.0, 1.0, 9)})
    assert set(record.merge(file, {"images": record.Figure(3.0, 3.0, 3.0, 9)})) == {"ddp", "images"}
    content = json.loads(file.read_text())
    content["machine"]["processor"] = "another"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="another machine"):
        record.merge(file, {"images": record.Figure(3.0, 3.0, 3.0, 9)})


@pytest.mark.exhaustive
def test_measurements_in_several_processes(tmp_path):
    file = tmp_path / "speed.json"
    done = speed("--quick", "--rows", "prune-l", "callback", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(file.read_text())["rows"]
    assert set(rows) == {"prune-layer", "prune-layer-half", "callback"}
    assert rows["prune-layer"]["median"] > 0
