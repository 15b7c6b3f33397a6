"""The examples run as their users start them, and no first task loses a bit."""

import re
import subprocess
import sys

import pytest

from tests.support import ROOT

FOLDER = ROOT / "examples"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^(\w+) +([\d.]+) +([\d.]+) +(yes|NO)$", flags=re.MULTILINE)


def example(name, *words):
    return subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *words], capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "lstm",
        *(
            pytest.param(name, marks=pytest.mark.exhaustive)
            for name in ("language_model", "text_classifier", "unet", "vision_transformer")
        ),
    ],
)
def test_two_tasks_are_learned_and_the_first_stays_as_it_was(name):
    done = example(name, "--epochs", "1")
    assert done.returncode == 0, done.stderr
    rows = ROW.findall(done.stdout)
    assert len(rows) == 2
    assert [row[3] for row in rows] == ["yes", "yes"]


def test_the_readme_of_the_examples_names_each():
    for path in FOLDER.glob("*.py"):
        assert f"]({path.name})" in README


@pytest.mark.exhaustive
@pytest.mark.slow
def test_by_the_rule_of_the_paper_a_gpt2_has_nothing_to_divide():
    done = example("language_model", "--epochs", "1", "--prunable", "paper")
    assert done.returncode != 0
    assert "CapacityError: cannot begin 'manual'" in done.stderr.strip().splitlines()[-1]
    assert not ROW.findall(done.stdout)
