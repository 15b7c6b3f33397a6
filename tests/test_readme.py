"""The README's code runs, and what it shows is there."""

import re
import shlex
import subprocess
import sys

import pytest

from packnet_pl import TaskClassifier, save_packed
from packnet_pl.models import vgg_small
from tests.support import ROOT
from tests.support.commands import run

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.slow
def test_the_script_with_the_callback_runs_as_printed(tmp_path):
    (tmp_path / "script.py").write_text(BLOCKS[0])
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^tensor\(\d+\)\n$", done.stdout, flags=re.MULTILINE)


def test_the_script_marks_five_lines():
    assert re.findall(r"# (\d)$", BLOCKS[0], flags=re.MULTILINE) == ["1", "2", "3", "4", "5"]


@pytest.mark.slow
def test_the_other_code_runs_too(tmp_path):
    # A packed file to read, as a run of the embedded sequence leaves it.
    model = TaskClassifier(vgg_small())
    model.add_task("latin", num_classes=2, class_names=["A", "B"], input_shape=(1, 24, 24), mean=(0.5,), std=(0.25,))
    model.packnet.begin_task("latin")
    model.packnet.finish_task()
    save_packed(model, tmp_path / "packed.safetensors")
    (tmp_path / "script.py").write_text("import torch\n" + "\n".join(BLOCKS[1:]))
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_images_and_linked_files_exist():
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        path, _, section = target.partition("#")
        assert target.startswith("http") or (ROOT / path).is_file(), target
        if section and not target.startswith("http"):
            headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]
            assert section in anchors, target


def test_both_commands_are_targets_of_the_makefile():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for command in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert command in targets
    assert {"train", "test"} <= set(targets)


@pytest.mark.slow
def test_every_packnet_train_line_is_accepted(tmp_path):
    lines = re.findall(r"^(packnet-train .*?)\s*(?:#.*)?$", README, flags=re.MULTILINE)
    assert len(lines) >= 6
    for line in lines:
        # Of a sweep the first job: Hydra shows no configuration of all of them.
        line = re.sub(r"(=[\w.]+),\S+", r"\1", line).replace(" -m ", " ")
        done = run(*shlex.split(line), "--cfg", "job", cwd=tmp_path)
        assert done.returncode == 0, f"{line}: {done.stderr}"
