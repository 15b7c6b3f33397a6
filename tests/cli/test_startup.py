"""Which libraries each command loads: whoever looks into a file, or mistypes a word, does not wait for torch."""

import json
import subprocess
import sys
from argparse import Namespace

import hydra
import pytest
import torch
from PIL import Image

from packnet_pl import save_packed
from packnet_pl.configuration.compose import compose
from packnet_pl.configuration.given_values import check_given
from packnet_pl.configuration.run_config import configure
from packnet_pl.configuration.schema import schema_keys
from packnet_pl.errors import UsageError
from packnet_pl.models import Preparation
from tests.support.packed_models import packed_model

HEAVY = (
    "hydra",
    "matplotlib",
    "numba",
    "numpy",
    "pytorch_lightning",
    "scipy",
    "sklearn",
    "timm",
    "torch",
    "torch._dynamo",
    "torchvision",
)
SCRIPT = """
import json, sys
from packnet_pl.cli.{module} import main
sys.argv = {words}
try:
    main()
except SystemExit as end:
    code = end.code
else:
    code = 0
print(json.dumps([code, [name for name in {heavy} if name in sys.modules]]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("startup")
    torch.manual_seed(0)
    model = packed_model(tasks={})
    how = Preparation("L", (8, 8), 8)
    model.add_task("light", num_classes=2, input_shape=(1, 8, 8), mean=(0.5,), std=(0.25,), preparation=how)
    model.packnet.begin_task("light")
    model.packnet.prune(0.5)
    model.packnet.finish_task()
    save_packed(model, folder / "packed.safetensors")
    Image.new("L", (9, 10), 77).save(folder / "image.png")
    return folder


@pytest.mark.parametrize(
    ("module", "words", "code", "loaded"),
    [
        ("inspect_file", ("packed.safetensors",), 0, []),
        ("predict", ("nowhere", "--task", "light", "image.png"), 2, []),
        ("predict", ("packed.safetensors", "--task", "light", "nothing.png"), 2, []),
        ("predict", ("packed.safetensors", "--task", "dark", "image.png"), 2, []),
        ("predict", ("packed.safetensors", "--task", "light", "image.png"), 0, ["numpy", "torch"]),
        ("export", ("packed.safetensors", "--task", "dark", "--format", "onnx"), 2, []),
    ],
    ids=["inspect", "no file", "no image", "no task", "predict", "export"],
)
def test_a_command_loads_no_more_than_it_needs(folder, module, words, code, loaded):
    script = SCRIPT.format(module=module, words=[module, *words], heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [code, loaded], done.stderr


@pytest.mark.parametrize(
    "override",
    ["prune.ratio=75", "prune.ratoi=0.5", "seed=-1", "trainer.devicse=2", "resume=null", "sweep.objective=null"],
)
def test_a_wrong_override_is_refused_before_anything_is_composed(override, monkeypatch):
    composed = []
    monkeypatch.setattr(hydra, "compose", lambda *_, **__: composed.append(1))
    with pytest.raises(UsageError, match=override.partition("=")[0]):
        configure(Namespace(config_dir=None, config_name=None, overrides=[override]))
    assert not composed


@pytest.mark.parametrize(
    "override", ["prune=magnitude", "+new=1", "~logger", "arch.width=2", "prune.ratio=0.5,0.75", "seed=${oc.env:HOME}"]
)
def test_an_override_that_a_configuration_may_take_is_left_to_composing(override):
    check_given([override, "optim.gradient_clip=null", "prune.ratio=[0.5,0.75]", "hydra.job.chdir=true"])


def test_the_schema_names_each_key_that_hydra_composes():
    composed = compose(Namespace(config_dir=None, config_name=None), [])
    keys = {
        f"{section}.{name}"
        for section in ("prune", "optim", "trainer", "debug", "checkpoint")
        for name in composed[section]
    }
    assert keys <= set(schema_keys())
