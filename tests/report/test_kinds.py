"""Which runs stand in one row, and what the row is called."""

import pytest

from packnet_pl.report import compare_methods, find_runs, is_comparison, sequences
from tests.support.results import write_other, write_run

PAPER = {"scope": "layer", "granularity": "weight", "norm": "shared", "bias": "shared"}


def compare(*folders):
    (runs,) = sequences(find_runs(folders)[0])
    return compare_methods(runs)


def labels(comparison):
    return [row.label for row in comparison.rows]


def test_rows_are_in_the_order_of_the_paper_and_named_by_what_tells_them_apart(tmp_path):
    both = (0.1, 0.2)
    for number, method in enumerate(["mine", "joint", "lwf", "finetune", "classifier_only", "individual"]):
        write_other(tmp_path / f"b{number}", method, both, settings={"temperature": 2.0, "weight": 1.0})
    write_other(tmp_path / "c0", "lwf", both, settings={"temperature": 2.0, "weight": 10.0})
    write_other(tmp_path / "c1", "lwf", both, settings={"temperature": 2.0, "weight": 3})
    write_run(tmp_path / "d0", (0.75, 0.75), settings=PAPER | {"norm": "per_task", "scope": "global"})
    write_run(tmp_path / "d1", (0.75, 0.75), settings=PAPER)
    write_run(tmp_path / "d2", (0.5, 0.75), settings=PAPER)
    write_run(tmp_path / "d3", (0.5, None), settings=PAPER)
    write_run(tmp_path / "d4", (0.5, 0.5))
    comparison = compare(tmp_path)
    assert labels(comparison) == [
        "individual",
        "classifier_only",
        "finetune",
        "lwf, weight 1",
        "lwf, weight 3",
        "lwf, weight 10",
        "joint",
        "mine",
        "packnet [0.5, 0.5], settings not recorded",
        "packnet [0.5, -]",
        "packnet 0.75",
        "packnet 0.75, norm per_task, scope global",
        "packnet [0.5, 0.75]",
    ]
    assert (
        "packnet: bias shared, granularity weight, norm shared, prunable paper, scope layer where not said otherwise"
        in comparison.notes
    )


def test_a_run_from_before_there_was_a_choice_of_what_tasks_divide_is_not_one_of_todays(tmp_path):
    write_run(tmp_path / "0", settings=PAPER)
    write_run(tmp_path / "1", settings=PAPER | {"prunable": "paper"})
    write_run(tmp_path / "2", settings=PAPER | {"prunable": "weights"})
    assert labels(compare(tmp_path)) == ["packnet 0.5", "packnet 0.5, prunable weights"]


def test_what_is_off_unless_it_is_written_down_goes_unsaid(tmp_path):
    write_run(tmp_path / "0", settings=PAPER)
    write_run(tmp_path / "1", settings=PAPER | {"mixup": 0.2, "balance": "weights"})
    write_run(tmp_path / "2", settings=PAPER | {"mixup": 0.4})
    write_run(tmp_path / "3", settings=PAPER | {"mask": "learned", "callbacks": "ema", "width": 1.45})
    expected = [
        "packnet 0.5",
        "packnet 0.5, balance weights, mixup 0.2",
        "packnet 0.5, callbacks ema, mask learned, width 1.45",
        "packnet 0.5, mixup 0.4",
    ]
    assert sorted(labels(compare(tmp_path))) == expected


def test_how_an_option_is_set_is_said_where_runs_that_have_it_differ(tmp_path):
    masked = PAPER | {"mask": "learned", "mask_init": 1.0}
    write_run(tmp_path / "0", settings=PAPER)
    write_run(tmp_path / "1", settings=masked | {"mask_lr": 0.3})
    assert sorted(labels(compare(tmp_path))) == ["packnet 0.5", "packnet 0.5, mask learned"]
    write_run(tmp_path / "2", settings=masked | {"mask_lr": 0.1})
    assert sorted(labels(compare(tmp_path))) == [
        "packnet 0.5",
        "packnet 0.5, mask learned, mask_lr 0.1",
        "packnet 0.5, mask learned, mask_lr 0.3",
    ]


def test_a_setting_that_a_file_does_not_have_is_told_from_the_papers(tmp_path):
    write_run(tmp_path / "0", settings={"scope": "layer"})
    write_run(tmp_path / "1", settings={"scope": "layer", "rewind": "gradual"})
    write_run(tmp_path / "2", settings={"scope": "layer", "rewind": "gradual", "norm": "shared", "deep": True})
    assert sorted(labels(compare(tmp_path))) == [
        "packnet 0.5, deep not recorded, norm not recorded, rewind gradual",
        "packnet 0.5, deep not recorded, norm not recorded, rewind not recorded",
        "packnet 0.5, deep yes, rewind gradual",
    ]


def test_the_same_folder_is_one_sample_and_two_of_equal_keys_are_two_and_named(tmp_path, monkeypatch):
    write_run(tmp_path / "a" / "0", errors=(0.2, 0.2))
    write_run(tmp_path / "b" / "0", errors=(0.4, 0.4))
    write_other(tmp_path / "c", "finetune", (0.2, 0.2))
    monkeypatch.chdir(tmp_path)
    twice = compare(tmp_path / "a", tmp_path / "a" / "0", tmp_path / "b" / ".." / "a", tmp_path / "c")
    assert [len(row.runs) for row in twice.rows] == [1, 1]
    comparison = compare(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    assert [(row.label, len(row.runs)) for row in comparison.rows] == [("finetune", 1), ("packnet 0.5", 2)]
    assert comparison.notes[-1] == (
        f"packnet 0.5, seed 0: 2 runs ({tmp_path / 'a' / '0'}, {tmp_path / 'b' / '0'}) are counted as one sample each; "
        "leave out copies, and runs that differ in what is not shown here"
    )


def test_only_runs_of_the_same_tasks_in_the_same_order_and_backbone_are_compared(tmp_path):
    write_other(tmp_path / "0", "individual", (0.1, 0.1))
    write_other(tmp_path / "1", "finetune", (0.1, 0.1), names=["greek", "latin"])
    write_other(tmp_path / "2", "finetune", (0.1, 0.1), arch="resnet18")
    write_run(tmp_path / "3")
    groups = sequences(find_runs([tmp_path])[0])
    assert [[run.folder.name for run in group] for group in groups] == [["2"], ["1"], ["0", "3"]]


def test_a_table_of_methods_is_made_where_there_is_more_than_ratios_to_compare(tmp_path):
    def asked(*folders):
        return is_comparison(find_runs(folders)[0])

    half = write_run(tmp_path / "0", settings=PAPER)
    more = write_run(tmp_path / "1", (0.75, 0.75), settings=PAPER)
    everywhere = write_run(tmp_path / "2", settings=PAPER | {"scope": "global"})
    other = write_other(tmp_path / "3", "finetune", (0.1, 0.1))
    assert [asked(half, more), asked(half)] == [False, False]
    assert [asked(half, everywhere), asked(half, other), asked(other)] == [True, True, True]


def test_runs_without_validation_figures_are_refused_by_name(tmp_path):
    write_other(tmp_path / "0", "finetune", (0.8, 0.8), val_now=[0.8, 0.6])
    write_other(tmp_path / "1", "finetune", (0.8, 0.8))
    write_other(tmp_path / "2", "finetune", (0.8, 0.8), val_now=[None, None])
    write_other(tmp_path / "3", "finetune", (0.8, 0.8), complete=False)
    said = rf"^2 of 3 finished runs without a validation accuracy .*: {tmp_path}/1, {tmp_path}/2; run them anew"
    with pytest.raises(ValueError, match=said):
        find_runs([tmp_path], "val")


@pytest.mark.parametrize("more", [{"val_now": [0.1]}, {"val_now": 3}, {"settings": [1]}, {"storage": None}])
def test_damaged_fields_are_named(tmp_path, more):
    write_other(tmp_path / "0", "finetune", (0.8, 0.8), **({"val_now": [0.5, 0.5]} | more))
    with pytest.raises(ValueError, match=r"0/results\.json is not a results file, or is damaged"):
        find_runs([tmp_path], "val")
