"""Nothing is forgotten with several processes, which agree to the bit; strategies that cannot keep that are refused."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy
from torch import nn

from packnet_pl import PackNetCallback
from tests.support.promise.checker import bits, check_promise
from tests.support.promise.own_modules import OwnModule, quiet, subject, trainer
from tests.support.promise.processes import left_in, run_script
from tests.support.promise.user_modules import UserModule, images, subject_of

pytestmark = pytest.mark.promise("Strategies")

TWO_PROCESSES = {
    "heads of all tasks in a ModuleDict from the start, batch-norm": "heads_of_all_tasks",
    "gradients accumulated over 2 batches": "accumulation",
    "norms and biases per task": "per_task",
    "learned masks": "learned_masks",
    "pruned gradually, by gradients": "gradual_taylor",
    "what is pruned is learned": "learned_pruning",
    "select='best' with a metric that differs between the ranks": "best_epoch",
    "TaskClassifier": "task_classifier",
    "TaskClassifier: distillation from the dense network while retraining": "distillation",
    "weights that differ between the ranks at the end of the fit": "one_choice_before",
    "weights that differ between the ranks when they are pruned": "one_choice_in_settled",
    "layers and PackNet built in configure_model": "configure_model",
    "resumed from a checkpoint in the middle of a task": "resumed",
}
REFUSED = {
    "ModelParallelStrategy with tensor parallelism": "model_parallel",
    "ranks with other owners": "other_owners",
    "ranks with other norms and biases per task": "other_copies",
    # Comes last: ranks that are not refused alike would lose each other here.
    "a rank that knows no tasks": "no_tasks_on_rank_1",
}
ON_GPUS = ["heads_of_all_tasks", "per_task", "best_epoch", "task_classifier", "sync_batchnorm", "mixed_16"]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    output = run_script("ddp_script", folder, "cpu", *TWO_PROCESSES.values(), *REFUSED.values())
    return folder, output


def found(folder, row, output):
    """What both ranks left, if they agree on all of it."""
    ranks = [left_in(folder, row, rank, output) for rank in (0, 1)]
    for rank, left in enumerate(ranks):
        assert not left["error"], f"rank {rank}: {left['error']}"
        assert all(left["notes"].values()), f"rank {rank}: {left['notes']}"
    return ranks


def assert_same(left, right):
    assert left["tasks"] == right["tasks"]
    for what in ("owners", "weights"):
        assert left[what].keys() == right[what].keys()
        for name, value in left[what].items():
            assert torch.equal(bits(value), bits(right[what][name])), f"the ranks have other {what} of {name}"
    for task, answers in left["answers"].items():
        for one, other in zip(answers, right["answers"][task], strict=True):
            assert torch.equal(one, other), f"the ranks answer differently for task {task!r}"


@pytest.mark.slow
@pytest.mark.promise("Strategies", label="DDP with two processes (gloo)")
@pytest.mark.parametrize("row", TWO_PROCESSES)
def test_two_processes(row, two_processes):
    folder, output = two_processes
    left, right = found(folder, TWO_PROCESSES[row], output)
    assert len(left["tasks"]) > 1
    assert_same(left, right)


@pytest.mark.slow
@pytest.mark.promise("Strategies", status="refused", label="two processes (gloo), on both ranks")
@pytest.mark.parametrize("row", REFUSED)
def test_refused_by_both_processes(row, two_processes):
    folder, output = two_processes
    found(folder, REFUSED[row], output)


@pytest.mark.promise("Strategies", label="one process")
def test_one_process():
    check_promise(subject(OwnModule()), "one process", trainer=trainer(strategy="auto", devices=1))


@pytest.mark.promise("Strategies", label="strategy='ddp' with one device, heads of all tasks from the start")
@pytest.mark.usefixtures("without_processes_after")
def test_ddp_with_one_device():
    check_promise(subject(OwnModule()), "ddp, one device", trainer=trainer(strategy="ddp", devices=1))


@pytest.mark.promise("Strategies", status="refused")
@pytest.mark.parametrize("strategy", [FSDPStrategy, DeepSpeedStrategy])
def test_strategies_that_cut_parameters(strategy, monkeypatch):
    """Lightning makes them for GPUs only; the callback sees them before anything is set up."""
    module = OwnModule()
    needed = [parameter.requires_grad for parameter in module.parameters()]
    callback = PackNetCallback(task="a", phase="train", prune_ratio=0.5, private="heads.a")
    started = quiet(callback)
    monkeypatch.setattr(pl.Trainer, "strategy", property(lambda _: object.__new__(strategy)))
    with pytest.raises(ValueError, match=f"{strategy.__name__} cuts parameters into shards"):
        callback.setup(started, module, "fit")
    assert module.packnet.open_task is None
    assert [parameter.requires_grad for parameter in module.parameters()] == needed


@pytest.mark.promise("Strategies", status="refused")
@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "ddp_notebook", "ddp_spawn_find_unused_parameters_true"])
def test_strategies_that_fit_a_copy_in_another_process(strategy):
    """They bring the weights back, and not what PackNet knows of them."""
    module = OwnModule()
    callback = PackNetCallback(task="a", phase="train", prune_ratio=0.5, private="heads.a")
    started = quiet(callback, strategy=strategy, devices=2)
    with pytest.raises(ValueError, match=r"process.*ddp|ddp.*process"):
        callback.setup(started, module, "fit")
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.promise("Strategies", label="16-mixed on one GPU")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_one_gpu():
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(), nn.Linear(216, 8))
    settings = {"accelerator": "gpu", "devices": 1, "precision": "16-mixed", "max_epochs": 3}
    # Lightning brings the module back to the CPU at the end of each fit, where it is asked.
    check_promise(subject_of(UserModule(net, 8), images()), "16-mixed, GPU", trainer=trainer(**settings))


@pytest.mark.slow
@pytest.mark.promise("Strategies", label="DDP with two GPUs (nccl), also SyncBatchNorm and 16-mixed")
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus(tmp_path):
    output = run_script("ddp_script", tmp_path, "gpu", *ON_GPUS, limit=400)
    for row in ON_GPUS:
        left, right = found(tmp_path, row, output)
        assert left["tasks"] == ["a", "b", "c"]
        assert_same(left, right)
