"""Every checkpoint that a fit writes leads to the same bits."""

import shutil
import signal

import pytest

from packnet_pl.run import StoppedError, StopRequest
from packnet_pl.run.checkpointing import SaveState
from tests.support.cases import breadth
from tests.support.run_fits import assert_same_bits, fit, new_model


class Asked(StopRequest):
    """Is asked to stop before the batch with this number."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def asked(self):
        self.at -= 1
        if self.at < 0:
            self.signum = signal.SIGTERM
        return super().asked()


@pytest.fixture(scope="module", params=breadth([1, 2], 2), ids=lambda n: f"accumulate {n}")
def reference(request, tmp_path_factory):
    """A fit without interruption, and the learning curves of its phases."""
    model, logs = new_model("first"), tmp_path_factory.mktemp("logs")
    fit(model, "second", accumulate=request.param, logs=logs)
    return request.param, model, curves(logs)


def curves(logs):
    return {phase: (logs / "logs" / phase / "metrics.csv").read_text() for phase in ("train", "retrain")}


@pytest.mark.parametrize(
    "num_workers", [pytest.param(0, id="no workers", marks=pytest.mark.exhaustive), pytest.param(2, id="2 workers")]
)
def test_from_each_checkpoint_a_fit_goes_on_to_the_same_bits(reference, tmp_path, num_workers):
    accumulate, expected, logged = reference
    copies = []

    class Keeping(SaveState):
        def _save(self, trainer):
            super()._save(trainer)
            # What a process that is killed now leaves.
            shutil.copytree(tmp_path / "logs", tmp_path / f"{len(copies)}" / "logs", dirs_exist_ok=True)
            copies.append((self.phase, shutil.copy(self._path, tmp_path / f"{len(copies)}.ckpt")))

    def saving(phase):
        callback = Keeping(tmp_path / f"{phase}.ckpt", every_n_steps=1, stop=StopRequest())
        callback.phase = phase
        return [callback]

    model = new_model("first")
    fit(model, "second", callbacks=saving, accumulate=accumulate, logs=tmp_path)
    assert_same_bits(model, expected)
    assert curves(tmp_path) == logged
    # In each phase 2 epochs of 5 steps of 8 images.
    assert len(copies) == 20
    for number in range(20)[::3] if num_workers == 0 else range(20)[3::8]:
        again, logs = new_model("first"), tmp_path / f"{number}"
        fit(again, "second", resume=copies[number], accumulate=accumulate, num_workers=num_workers, logs=logs)
        assert_same_bits(again, expected)
        assert curves(logs) == logged, f"checkpoint {number}"


def test_stopped_anywhere_a_fit_goes_on_to_the_same_bits(reference, tmp_path):
    accumulate, expected, _ = reference
    for at in range(0, 13 if accumulate == 1 else 7, 3):
        path = {phase: tmp_path / f"{at}" / f"{phase}.ckpt" for phase in ("train", "retrain")}
        stop = Asked(at)

        def saving(phase, path=path, stop=stop):
            return [SaveState(path[phase], every_n_steps=None, stop=stop)]

        with pytest.raises(StoppedError) as stopped:
            fit(new_model("first"), "second", callbacks=saving, accumulate=accumulate)
        assert stopped.value.signum == signal.SIGTERM
        phase = "retrain" if path["retrain"].exists() else "train"
        again = new_model("first")
        fit(again, "second", resume=(phase, path[phase]), accumulate=accumulate)
        assert_same_bits(again, expected)


@pytest.mark.parametrize(("every", "count"), [(None, 2), (1, 10), (2, 6), (3, 5), (100, 2)])
def test_how_often_it_saves(tmp_path, every, count):
    saved = []

    class Counting(SaveState):
        def _save(self, trainer):
            super()._save(trainer)
            saved.append(trainer.global_step)

    def saving(phase):
        stop = StopRequest()
        return [Counting(tmp_path / "x.ckpt", every_n_steps=every, stop=stop)] if phase == "train" else []

    fit(new_model(), "first", callbacks=saving)
    assert len(saved) == len(set(saved)) == count
    assert {5, 10} <= set(saved)
