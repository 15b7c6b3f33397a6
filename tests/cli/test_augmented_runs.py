"""Runs of embedded tasks that are augmented: killed and resumed, statistics of features, the packed file."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.support import warm

pytestmark = pytest.mark.slow

TINY = ["debug=tiny", "debug.max_epochs=2", "optim.batch_size=16", "logger=none", "which_task=features"]
TINY += ["sequence=far", "sequence.order=[digits,spectro]"]
AUGMENTED = ["sequence.tasks.digits.data.augment=affine", "sequence.tasks.spectro.data.augment=specaugment"]
UNTRAINED = [
    f"sequence.tasks.{task}.{phase}.lr=1e-30" for task in ("digits", "spectro") for phase in ("train", "retrain")
]


def trained(folder, *words):
    done = warm.run("packnet-train", *TINY, *words, f"hydra.run.dir={folder.name}", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder


def test_an_augmented_run_forgets_nothing_and_says_how_it_was_augmented(tmp_path):
    folder = trained(tmp_path / "run", *AUGMENTED)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["settings"]["augment"] == "digits affine, spectro specaugment"
    assert results["outputs_unchanged"] == [True, True]


@pytest.mark.exhaustive
def test_statistics_of_features_are_of_images_that_are_not_augmented(tmp_path):
    """At such a rate weights stand still; norms are recalibrated, so that the networks are the same."""
    words = [*UNTRAINED, "callbacks=recalibrate"]
    one, other = (
        load_file(trained(tmp_path / name, *words, *more) / "packed.safetensors")
        for name, more in (("plain", []), ("augmented", AUGMENTED))
    )
    names = [name for name in one if name.startswith("which/")]
    assert len(names) == 8
    for name in names:
        torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=1e-4)


@pytest.mark.exhaustive
def test_killed_in_the_middle_of_epochs_it_ends_with_the_same_bits(tmp_path):
    reference = warm.outcome(trained(tmp_path / "reference", *AUGMENTED))
    folder = tmp_path / "run"
    words = [*TINY, *AUGMENTED, "optim.num_workers=2", "checkpoint.every_n_steps=2", "hydra.run.dir=run"]
    process = warm.Process("packnet-train", *words, cwd=tmp_path)
    for moment in ("digits/train", "digits/retrain", "spectro/train"):
        warm.kill_after(process, (folder / "tasks" / moment / "last.ckpt").exists)
        process = warm.Process("packnet-resume", folder, cwd=tmp_path)
    done = process.wait()
    assert done.returncode == 0, done.stderr
    warm.assert_same(folder, reference)
