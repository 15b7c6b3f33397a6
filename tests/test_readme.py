"""What the README shows is there: five lines in a script, two commands."""

import re

from tests.support import ROOT
from tests.support.pages import blocks

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_script_marks_five_lines():
    script = next(block.text for block in blocks(README) if block.language == "python")
    assert re.findall(r"# (\d)$", script, flags=re.MULTILINE) == ["1", "2", "3", "4", "5"]


def test_its_commands_are_those_of_the_makefile():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    commands = [block.text for block in blocks(README) if block.language == "bash"]
    assert {"train", "test"} <= set(re.findall(r"^make (\w+)", "\n".join(commands), flags=re.MULTILINE)) & set(targets)
