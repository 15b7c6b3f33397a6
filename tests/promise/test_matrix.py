"""docs/promise.md says what the tests of this folder say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.promise import matrix

HERE = Path(__file__).parent


def all_cases(config, folder):
    """The rows of all cases: of those that this run has collected, or, if it is a part, of a collection of its own."""
    if config.stash.get(matrix.ROWS, None) is not None:
        return [row for row in config.stash[matrix.ROWS] if row is not None]
    listed = folder / "rows.json"
    collect = ["-m", "pytest", HERE, "--collect-only", "-q", "-p", "no:cacheprovider", "--list-matrix", listed]
    subprocess.run([sys.executable, *map(str, collect)], cwd=ROOT, check=True, capture_output=True)
    return [matrix.Row(*row) for row in json.loads(listed.read_text())]


@pytest.mark.slow
def test_the_matrix_has_exactly_the_rows_that_the_tests_have(request, tmp_path):
    if request.config.getoption("--write-matrix", default=False):
        pytest.skip("the matrix is being written by this run")
    cases = all_cases(request.config, tmp_path)
    text = matrix.MATRIX.read_text(encoding="utf-8")
    written = matrix.parse(text)
    expected = sorted((row.group, row.label) for row in cases)
    assert sorted((group, label) for group, label, _ in written) == expected, f"run: {matrix.COMMAND}"
    assert text.startswith(matrix.INTRODUCTION)
    promised = {(row.group, row.label): row.status for row in cases}
    wrong = [row for row in written if row[2] != promised[row[:2]] and not row[2].startswith("skipped: ")]
    assert not wrong


def test_a_matrix_that_was_written_is_read_again():
    rows = [
        matrix.Row(2, "Precision", "16-mixed", "skipped: no GPU | here"),
        matrix.Row(1, "Optimizers", "SGD", "holds"),
        matrix.Row(3, "Optimizers", "none: nothing", "refused"),
    ]
    assert matrix.parse(matrix.render(rows)) == [
        ("Optimizers", "SGD", "holds"),
        ("Optimizers", "none: nothing", "refused"),
        ("Precision", "16-mixed", "skipped: no GPU / here"),
    ]


def test_two_rows_of_the_same_name_are_refused():
    with pytest.raises(ValueError, match="SGD"):
        matrix.render([matrix.Row(1, "Optimizers", "SGD", "holds"), matrix.Row(2, "Optimizers", "SGD", "holds")])
