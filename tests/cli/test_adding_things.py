"""A package of a user's own adds a data set, a backbone, a method and a pruning score: one file and one yaml each."""

import json
import sys
from pathlib import Path

import pytest

from tests.support import warm

TOY = Path(__file__).parents[1] / "toy_package"


def installed():
    """Lets the toy package be imported by its own name."""
    sys.path.insert(0, str(TOY.parent))


@pytest.mark.parametrize("score", ["far_from_mean", pytest.param("steady", marks=pytest.mark.exhaustive)])
def test_a_run_uses_all_that_the_package_adds(tmp_path, score):
    chosen = ["data@sequence.tasks.digits.data=stripes", "arch=one_layer", "method=smoothed", f"prune={score}"]
    words = ["debug=tiny", "sequence.order=[digits]", "prune.scope=global", "logger=none", "hydra.run.dir=r"]
    done = warm.run("packnet-train", "--config-dir", TOY / "conf", *chosen, *words, cwd=tmp_path, before=installed)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "r" / "results.json").read_text(encoding="utf-8"))
    assert (results["method"], results["arch"], results["complete"]) == ("smoothed", "one_layer", True)
    assert results["tasks"][0]["class_names"] == ["rows", "columns"]
    settings = {key: results["settings"][key] for key in ("score", "scope", "granularity", "smoothing")}
    assert settings == {"score": score, "scope": "global", "granularity": "weight", "smoothing": 0.1}
    assert results["free"] == 0.5
    assert results["outputs_unchanged"] == [True]
