"""Nothing is forgotten under Lightning's ModelParallelStrategy, in which each process has rows of all parameters."""

from functools import partial

import pytest

from tests.support.promise.processes import check_row, run_rows

LABEL = "ModelParallelStrategy"
TWO = {
    "TaskClassifier, a transformer of which no layer divides evenly; saved, loaded, packed": "task_classifier",
    "a residual network with batch-norm, SGD with momentum": "resnet",
    "resumed from a checkpoint in the middle of a task": "resumed",
}
MORE = {
    "heads of all tasks in a ModuleDict from the start": "transformer",
    "gradients accumulated over 2 batches, and clipped by their norm": "accumulated",
    "bf16-mixed": "mixed_precision",
    "pruned gradually, by gradients, globally": "pruned_by_gradients",
    "norms and biases per task": "per_task",
    "learned masks, select='best'": "learned_masks",
    "what is pruned is learned": "learned_pruning",
    "select='best' with a metric that differs between the processes": "best_epoch",
    "layers made in configure_model on the meta device": "made_later",
    "the package's ShardedStrategy": "sharded_strategy",
    "weights as DDP trains them": "beside_ddp",
}
NOTICED = {"a process that knows other tasks": "other_tasks"}
REFUSED = {"what copies the network, and what is not divided": "refused"}
THREE = {
    "heads of all tasks in a ModuleDict from the start": "transformer",
    "a residual network with batch-norm, SGD with momentum": "resnet",
    "resumed from a checkpoint that two processes wrote": "on_other_processes",
}


check = partial(check_row, notes=False)
run = partial(run_rows, "sharded_lightning_script")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return run(tmp_path_factory.mktemp("two"), 2, [*TWO.values(), *REFUSED.values(), *NOTICED.values()])


@pytest.fixture(scope="module")
def two_more(tmp_path_factory):
    return run(tmp_path_factory.mktemp("more"), 2, MORE.values())


@pytest.fixture(scope="module")
def three(two, tmp_path_factory):
    return run(tmp_path_factory.mktemp("three"), 3, THREE.values(), SAVED_BY=str(two[0]))


@pytest.mark.slow
@pytest.mark.promise("Strategies", label=f"two processes (gloo), {LABEL}")
@pytest.mark.parametrize("row", TWO)
def test_two_processes(row, two):
    check(TWO[row], two)


@pytest.mark.slow
@pytest.mark.promise("Strategies", status="refused", label=f"two processes (gloo), {LABEL}")
@pytest.mark.parametrize("row", REFUSED)
def test_refused_by_both_processes(row, two):
    check(REFUSED[row], two)


@pytest.mark.slow
@pytest.mark.promise("Strategies", status="noticed", label=f"two processes (gloo), {LABEL}")
@pytest.mark.parametrize("row", NOTICED)
def test_noticed_by_both_processes(row, two):
    check(NOTICED[row], two)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.promise("Strategies", label=f"two processes (gloo), {LABEL}")
@pytest.mark.parametrize("row", MORE)
def test_two_processes_in_other_ways(row, two_more):
    check(MORE[row], two_more)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.promise("Strategies", label=f"three processes (gloo), {LABEL}")
@pytest.mark.parametrize("row", THREE)
def test_three_processes(row, three):
    check(THREE[row], three)
