"""The progress of a run: what is shown on a terminal and in a log, and what it says of the time that is left."""

import io
import time
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from torch.utils.data import TensorDataset

from packnet_pl.data import TaskData
from packnet_pl.results import TaskResult
from packnet_pl.run.plan import Stage, TaskPlan
from packnet_pl.run.progress import RunProgress
from packnet_pl.run.progress_view import ProgressView, time_text
from packnet_pl.run.remaining_time import RemainingTime, StageWork

EPOCHS = {"train": 4, "retrain": 2}


def work(train=90.0, val=10.0, test=20.0):
    return StageWork(EPOCHS, train, val, test, images=8)


class Clock:
    """Goes on by hand."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def trained(time_left, phase, epochs, *, clock, seconds):
    """Trains a phase at so many seconds an epoch, looking five times in each."""
    for look in range(1, 5 * epochs + 1):
        clock.now += seconds / 5
        time_left.advance(phase, look / 5, clock.now)


def test_at_an_even_speed_the_time_left_is_exact_from_the_second_look_on():
    clock, left = Clock(), RemainingTime([work(), work(), work()])
    left.begin_stage(0, clock.now)
    assert left.left() is None
    left.advance("train", 0.1, clock.now)
    assert left.left() is None  # the first batch is warm-up
    clock.now += 10
    left.advance("train", 0.2, clock.now)  # an epoch takes 100 s, a unit of work 1 s
    task = 100 * (4 - 0.2 + 2) + 20
    assert left.left() == pytest.approx((task, task + 2 * 620))
    assert left.done == pytest.approx(20 / (3 * 620))


@pytest.mark.parametrize("last", [EPOCHS, {"train": 4}])
def test_between_two_tasks_exactly_the_finished_one_is_done_also_where_the_next_has_no_retrain_phase(last):
    clock, left = Clock(), RemainingTime([work(), StageWork(last, 90.0, 10.0, 20.0, images=8)])
    left.begin_stage(0, clock.now)
    for phase, epochs in EPOCHS.items():
        trained(left, phase, epochs, clock=clock, seconds=100)
        left.end_phase(phase, epochs)
    left.end_stage(clock.now, resumed=False)
    assert left.done == 620 / (620 + 100 * sum(last.values()) + 20)


def test_later_tasks_are_expected_to_take_what_the_finished_ones_took():
    clock, left = Clock(), RemainingTime([work(), work(train=40.0), work()])
    left.begin_stage(0, clock.now)
    trained(left, "train", 4, clock=clock, seconds=100)
    left.end_phase("train", 4)
    trained(left, "retrain", 2, clock=clock, seconds=100)
    left.end_phase("retrain", 2)
    clock.now += 20 + 310  # testing, and what else there is between tasks: half as much again
    left.end_stage(clock.now, resumed=False)
    left.begin_stage(1, clock.now)
    assert left.left() == pytest.approx((1.5 * 320, 1.5 * (320 + 620)))
    trained(left, "train", 1, clock=clock, seconds=200)  # this one is slower, which says nothing of the next
    assert left.left() == pytest.approx((200 * 3 + 4 * (100 + 20), 200 * 3 + 4 * (100 + 20) + 1.5 * 620))


def test_phases_that_stopped_early_are_expected_to_do_so_again():
    clock, left = Clock(), RemainingTime([work(), work()])
    left.begin_stage(0, clock.now)
    trained(left, "train", 2, clock=clock, seconds=100)
    left.end_phase("train", 2)
    left.advance("retrain", 0.0, clock.now)
    clock.now += 10
    left.advance("retrain", 0.1, clock.now)
    assert left.left() == pytest.approx((190 + 20, 190 + 20 + 0.5 * 400 + 200 + 20))


def test_a_resumed_fit_counts_the_epochs_before_but_not_as_its_own_speed():
    clock, left = Clock(), RemainingTime([work(), work()], [620.0])
    left.begin_stage(1, clock.now)
    assert left.left() == pytest.approx((620, 620))  # as the first task took
    left.advance("train", 3.0, clock.now)
    assert left.done == pytest.approx((620 + 300) / 1240)
    clock.now += 5
    left.advance("train", 3.1, clock.now)
    assert left.left()[0] == pytest.approx(0.5 * (90 + 200 + 20))


def test_trials_of_prune_ratios_are_work_of_their_task_as_many_as_earlier_searches_took():
    searched = StageWork(EPOCHS, 90.0, 10.0, 20.0, images=8, trials=4)
    clock, left = Clock(), RemainingTime([searched, searched])
    left.begin_stage(0, clock.now)
    left.record_trials(0)
    whole = 620 + 4 * 200  # each trial retrains for 2 epochs of 100 s
    trained(left, "train", 4, clock=clock, seconds=100)
    left.end_phase("train", 4)
    assert left.left() == pytest.approx((whole - 400, 2 * whole - 400))
    assert left.done == pytest.approx(400 / (2 * whole))
    clock.now += 200
    left.record_trials(1)
    assert left.left()[0] == pytest.approx(whole - 600)
    assert left.done == pytest.approx(600 / (2 * whole))
    clock.now += 200
    left.record_trials(2)
    left.end_search()  # two of four were enough
    expected = 620 + 2 * 200
    assert left.left() == pytest.approx((220, 220 + expected))
    trained(left, "retrain", 2, clock=clock, seconds=100)
    left.end_phase("retrain", 2)
    clock.now += 20
    left.end_stage(clock.now, resumed=False)
    assert left.done == pytest.approx(0.5)
    left.begin_stage(1, clock.now)
    assert left.left() == pytest.approx((expected, expected))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "5 s"), (41, "40 s"), (199, "3 min 20 s"), (1500, "25 min"), (18500, "5 h 10 min"), (273600, "3 days 4 h")],
)
def test_times_change_seldom(seconds, text):
    assert time_text(seconds) == text


FULL = ProgressView("cyrillic letters", 12, 14, "retrain", 100, 120, 0.5, 123456.0, 12.3456, 0.98765, (9e4, 9e5))


@pytest.mark.parametrize("width", [120, 80, 60, 40])
@pytest.mark.parametrize(
    "view", [ProgressView(), ProgressView("a", 1, 1, epochs=3), FULL], ids=["begin", "one", "full"]
)
def test_the_display_has_four_lines_that_fit(view, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(view)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) < width
    if view is FULL and width >= 60:
        text = " ".join(console.file.getvalue().split())
        assert "task 12 of 14: cyrillic letters retrain, epoch 100 of 120" in text
        assert "123,456 images/s loss 12.346 validation accuracy 0.988 left: 25 h, all tasks 10 days 10 h" in text


def a_plan():
    data = [TensorDataset(torch.zeros(n, 1, 4, 4), torch.zeros(n)) for n in (80, 8, 8)]
    tasks = [TaskPlan(n, TaskData(*data, ("x", "y"), (1, 4, 4), (0.0,), (1.0,)), 0.5, EPOCHS, {}) for n in ("a", "b")]
    return SimpleNamespace(stages=[Stage((task,)) for task in tasks], batch_size=8, accumulate=1, together=False)


def a_trainer(epoch, metrics=None):
    progress = SimpleNamespace(current=SimpleNamespace(processed=epoch))
    return SimpleNamespace(
        max_epochs=4,
        num_training_batches=10,
        accumulate_grad_batches=1,
        callback_metrics=metrics or {},
        fit_loop=SimpleNamespace(epoch_progress=progress),
    )


def fit(progress, clock, seconds):
    """Does what Lightning does in phase train of the first task, at so many seconds a step."""
    progress.begin(progress.stages[0])
    callback = progress.callback("a", "train")
    callback.setup(a_trainer(0), None, "fit")
    callback.on_train_start(a_trainer(0), None)
    for epoch in range(4):
        for batch in range(10):
            clock.now += seconds
            callback.on_train_batch_end(a_trainer(epoch), None, {"loss": torch.tensor(0.5)}, None, batch)
        callback.on_train_epoch_end(a_trainer(epoch + 1, {"val_accuracy": torch.tensor(0.75)}), None)
    callback.on_train_end(a_trainer(4, {"val_accuracy": torch.tensor(0.75)}), None)


def shown(console, seconds):
    clock, plan = Clock(), a_plan()
    with RunProgress(console, plan, clock=clock) as progress:
        progress.stages = plan.stages
        fit(progress, clock, seconds)
        accuracies = {"dense": 0.75, "pruned": 0.5, "retrained": None}
        result = TaskResult("a", 2, ["x", "y"], 0.5, 0.25, 3.0, 8, accuracies)
        progress.end([result], resumed=False)
        return console.file.getvalue()


def test_a_log_has_plain_lines_one_per_phase_and_task_and_some_in_a_long_phase():
    lines = shown(Console(file=io.StringIO(), width=30), seconds=45).splitlines()
    assert lines[0] == (
        "a, train: epoch 2 of 4, 11% of all is done, 0.2 images/s, loss 0.500, validation accuracy 0.750; "
        "left: 35 min, all tasks 1 h 20 min"
    )
    assert [line.partition(":")[2][:15] for line in lines[1:3]] == [" epoch 3 of 4, ", " 4 epochs, vali"]
    assert lines[2:] == [
        "a, train: 4 epochs, validation accuracy 0.750",
        "a: validation 0.750 dense, 0.500 pruned; owns 0.25; 30 min",
    ]
    assert len(lines) == 4


def test_short_phases_have_a_line_each():
    assert len(shown(Console(file=io.StringIO()), seconds=1).splitlines()) == 2


def test_on_a_terminal_a_task_leaves_one_line():
    found = shown(Console(file=io.StringIO(), force_terminal=True, force_interactive=True, width=80), seconds=1)
    assert "a: validation 0.750 dense, 0.500 pruned; owns 0.25; 40 s" in found
    assert "4 epochs" not in found


def test_other_processes_say_nothing():
    assert shown(Console(file=io.StringIO(), quiet=True, force_terminal=True), seconds=100) == ""


def test_a_step_costs_microseconds():
    progress = RunProgress(Console(file=io.StringIO()), plan := a_plan())
    progress.begin(plan.stages[0])
    callback, trainer = progress.callback("a", "train"), a_trainer(0)
    callback.on_train_start(trainer, None)
    outputs, steps = {"loss": torch.tensor(0.5)}, 2000
    costs = []
    for _ in range(20):
        begun = time.perf_counter()
        for batch in range(steps):
            callback.on_train_batch_end(trainer, None, outputs, None, batch % 10)
        costs.append((time.perf_counter() - begun) / steps)
    assert min(costs) < 10e-6
