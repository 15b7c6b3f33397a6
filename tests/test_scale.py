"""The figures in docs/scale.md are those that its script computes, and the script computes what it says."""

import importlib.util

import pytest
from omegaconf import OmegaConf

from tests.support import ROOT


@pytest.fixture(scope="module")
def scale():
    spec = importlib.util.spec_from_file_location("scale", ROOT / "benchmarks" / "scale.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_document_has_the_tables_that_the_script_computes(scale):
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    found = scale.tables()
    assert all(table in text for table in found.values())
    assert scale.written(text, found) == text


def test_the_sums_are_those_of_a_calculation_by_hand(scale):
    fine_grained = 30 * 5_994 + 30 * 8_144 + 20 * 2_040
    assert scale.trained() == 10 * 1_281_167 + 20 * 1_803_460 + fine_grained
    sizes = [50_000, 36_500, 5_794, 8_041, 6_149]
    validation = 13 * sizes[0] + 23 * sizes[1] + 33 * sizes[2] + 33 * sizes[3] + 23 * sizes[4]
    assert scale.asked() == validation + 5 * sizes[0] + 4 * sizes[1] + 3 * sizes[2] + 2 * sizes[3] + sizes[4]


def test_epochs_are_those_of_the_papers_sequence(scale):
    tasks = OmegaConf.load(ROOT / "conf" / "sequence" / "paper.yaml").tasks
    for task in scale.TASKS:
        assert task.dense == tasks[task.name.lower()].train.epochs
        assert task.retrain == (0 if task.ratio is None else tasks[task.name.lower()].retrain.epochs)


def test_a_document_without_a_place_for_a_table_is_refused(scale):
    with pytest.raises(ValueError, match="there is no place for hours"):
        scale.written("<!-- hours -->\n", {"hours": "| a |"})
