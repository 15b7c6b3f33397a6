import re
from pathlib import Path

import pytest

import packnet_pl
from packnet_pl.counting import counted

SOURCE = Path(packnet_pl.__file__).parent


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (1, "task", "1 task"),
        (0, "task", "0 tasks"),
        (2, "class", "2 classes"),
        (5920, "class name", "5,920 class names"),
    ],
)
def test_one_has_no_ending(number, noun, said):
    assert counted(number, noun) == said


def test_no_message_says_1_tasks():
    things = "task|classe|run|image|sample|job|epoch|step|network|label|number|type"
    found = [
        f"{path.name}: {line.strip()}"
        for path in SOURCE.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        # "2 runs (a, b)" is said of copies, "300 tasks; allowed are" of too many, "of the" of a fixed number.
        if re.search(rf"\{{len\([^{{}}]*\}} ({things})s\b", line) and not re.search(r"named\}|allowed are|of the", line)
    ]
    assert found == []
