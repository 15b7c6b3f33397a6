"""``lightning.pytorch`` and ``pytorch_lightning``: both work, and it is said where they are mixed."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest
import pytorch_lightning as pl

from packnet_pl.training.families import base_of_both, of_both
from tests.support import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    # Not imported here: it would be there for the tests that follow.
    if not (find_spec("lightning") and find_spec("jsonargparse")):
        pytest.skip("lightning and jsonargparse come with the extra 'dev'")
    folder = tmp_path_factory.mktemp("both")
    command = [sys.executable, "-m", "tests.support.both_libraries", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_module_and_trainer_of_lightning_forget_nothing_and_keep_their_tasks(outcome):
    assert outcome["lightning"] == ["a", "b"]


def test_the_callback_stands_in_the_configuration_of_either_command_line(outcome):
    assert outcome["lightning's command line"] == ["a"]
    assert outcome["pytorch_lightning's command line"] == ["a"]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("average", "EMAWeightAveraging never updated its average in this fit"),
        ("late average", "StochasticWeightAveraging begins with epoch 9"),
        ("best and average", "select='best' with an averaging callback"),
        ("pruning", "ModelPruning beside PackNetCallback"),
        ("strategy", "strategy FSDPStrategy cuts parameters into shards"),
        ("no packnet", "add to its constructor: self.packnet = PackNet"),
    ],
)
def test_what_is_refused_or_warned_of_is_so_with_lightning_too(outcome, case, expected):
    assert expected in outcome[case]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("classifier", "TaskClassifier is a LightningModule of pytorch_lightning, and lightning.pytorch is imported"),
        ("its trainer", "a Trainer of lightning.pytorch, and TaskClassifier is a LightningModule of pytorch_lightning"),
        ("module", "a Trainer of pytorch_lightning, and Mine is a LightningModule of lightning.pytorch"),
        ("other module", "take everything from pytorch_lightning (import pytorch_lightning as pl)"),
        ("data", "a Trainer of lightning.pytorch, and Data is a LightningDataModule of pytorch_lightning"),
    ],
)
def test_it_is_said_which_import_is_needed_where_the_two_are_mixed(outcome, case, expected):
    assert expected in outcome[case]


def test_without_lightning_a_class_is_its_own_base():
    if "lightning.pytorch" not in sys.modules:
        assert of_both(pl.Callback) == (pl.Callback,)
        assert base_of_both(pl.Callback) is pl.Callback
