"""Nothing is forgotten in a network whose rows ``fully_shard`` has divided among processes, in a loop of one's own."""

from functools import partial

import pytest

from tests.support.promise.processes import check_row, run_rows

LABEL = "fully_shard, a loop of one's own"
TWO = {
    "a transformer of which no layer divides evenly, AdamW": "transformer",
    "a residual network with batch-norm, SGD with momentum": "resnet",
    "pruned by gradients": "pruned_by_gradients",
    "resumed from a checkpoint in the middle of a task": "resumed",
    "packed into one file": "packed",
    "gathered by forward passes between the steps": "gathered_between",
    "norms and biases of each task's own, packed": "own_values",
    "pruned gradually, by gradients": "gradual",
    "rows of a table that a task did not look up": "tables",
    "large weights, which a step may be proved not to have moved": "large",
    "written to by more than the step": "unmoved",
    "only counts are sent by PackNet": "gathers_nothing",
    "learned masks, packed": "masks",
    "learned pruning": "learned_pruning",
}
MORE = {
    "pruned globally": "pruned_globally",
    "made on the meta device": "meta_start",
    "bfloat16 for computing": "mixed_precision",
    "activation checkpointing": "activation_checkpointing",
    "norms and biases of each task's own, resumed": "own_values_resumed",
    "learned masks, resumed": "masks_resumed",
    "activation checkpointing in bfloat16, learned masks": "masks_computed_again",
    "gradients added up before they are reduced": "accumulated",
    "gradients added up before they are reduced, in bfloat16, learned masks": "accumulated_masks",
    "kept gathered after forward passes (reshard_after_forward=False), learned masks": "kept_gathered",
    "CPUOffloadPolicy, without a GPU, learned masks": "cpu_offload",
    "tensor parallelism, ColwiseParallel with gathered outputs": "columnwise",
}
NOTICED = {
    "a weight of one process, changed from outside": "changed_from_outside",
    "a running statistic of one process, changed from outside": "buffer_changed",
    "a task's own value in one process, changed from outside": "own_value_changed",
}
REFUSED = {
    "what needs a whole weight": "refused",
    "a weight of one process that is NaN": "diverged",
    "a score of one process that is infinite": "score_overflows",
    "one more task, with no weight free": "no_room",
}
THREE = {
    "a transformer of which no layer divides evenly, AdamW": "transformer",
    "a residual network with batch-norm, SGD with momentum": "resnet",
    "packed into one file": "packed",
    "resumed from a checkpoint that two processes wrote": "on_other_processes",
    "norms and biases of each task's own, packed": "own_values",
    "norms and biases of each task's own, resumed from a checkpoint that two processes wrote": (
        "own_values_on_other_processes"
    ),
    "learned masks, packed": "masks",
    "learned masks, resumed from a checkpoint that two processes wrote": "masks_on_other_processes",
}
FOUR = {
    "two groups, each with the whole network": "hybrid",
    "two groups, each with the whole network, learned masks": "hybrid_masks",
}


run = partial(run_rows, "sharded_script")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return run(tmp_path_factory.mktemp("two"), 2, [*TWO.values(), *NOTICED.values(), *REFUSED.values()])


@pytest.fixture(scope="module")
def two_more(tmp_path_factory):
    return run(tmp_path_factory.mktemp("more"), 2, MORE.values())


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    saved = tmp_path_factory.mktemp("saved")
    run(saved, 2, ["resumed", "own_values_resumed", "masks_resumed"])
    return run(tmp_path_factory.mktemp("three"), 3, THREE.values(), SAVED_BY=str(saved))


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    return run(tmp_path_factory.mktemp("four"), 4, FOUR.values())


@pytest.mark.slow
@pytest.mark.promise("Strategies", label=f"two processes (gloo), {LABEL}")
@pytest.mark.parametrize("row", TWO)
def test_two_processes(row, two):
    check_row(TWO[row], two)


@pytest.mark.slow
@pytest.mark.promise("Strategies", status="noticed", label=f"two processes (gloo), {LABEL}")
@pytest.mark.parametrize("row", NOTICED)
def test_noticed_by_both_processes(row, two):
    check_row(NOTICED[row], two)


@pytest.mark.slow
@pytest.mark.promise("Strategies", status="refused", label=f"two processes (gloo), {LABEL}")
@pytest.mark.parametrize("row", REFUSED)
def test_refused_by_both_processes(row, two):
    check_row(REFUSED[row], two)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.promise("Strategies", label=f"two processes (gloo), {LABEL}")
@pytest.mark.parametrize("row", MORE)
def test_two_processes_in_other_ways(row, two_more):
    check_row(MORE[row], two_more)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.promise("Strategies", label=f"three processes (gloo), {LABEL}")
@pytest.mark.parametrize("row", THREE)
def test_three_processes(row, three):
    check_row(THREE[row], three)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.promise("Strategies", label=f"four processes (gloo), {LABEL}")
@pytest.mark.parametrize("row", FOUR)
def test_two_groups_of_two(row, four):
    check_row(FOUR[row], four)
