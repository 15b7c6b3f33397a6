"""A layer imports only from the layers above it, and the top of the package imports nothing heavy."""

import ast
import subprocess
import sys

import pytest

from tests.support import ROOT

SOURCE = ROOT / "src" / "packnet_pl"
LAYERS = [
    "container",
    "core",
    "models",
    "data",
    "training",
    "methods",
    "packed",
    "report",
    "run",
    "configuration",
    "launch",
    "cli",
]
HYDRA = {"configuration", "launch", "cli"}


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module


def test_every_folder_is_a_layer():
    assert {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()} == set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_from_layers_above(layer):
    below = LAYERS[LAYERS.index(layer) + 1 :]
    for path in (SOURCE / layer).rglob("*.py"):
        for name in imported_modules(path):
            package, _, rest = name.partition(".")
            assert package != "packnet_pl" or rest.split(".")[0] not in below, f"{path} imports {name}"


@pytest.mark.parametrize("library", ["hydra", "omegaconf"])
def test_only_the_command_line_knows_hydra(library):
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] not in HYDRA:
            assert not any(name.split(".")[0] == library for name in imported_modules(path)), path


def test_only_training_and_below_know_lightning():
    for layer in ("core", "container", "models", "data", "packed", "report"):
        for path in (SOURCE / layer).rglob("*.py"):
            assert not any("lightning" in name for name in imported_modules(path)), path


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import packnet_pl", ["torch", "pytorch_lightning", "hydra"]),
        ("import packnet_pl.choices", ["torch", "hydra", "omegaconf"]),
        ("import packnet_pl.results", ["torch", "numpy", "hydra", "omegaconf", "rich"]),
        ("import packnet_pl.configuration.validate", ["torch", "pytorch_lightning"]),
        ("import packnet_pl.container", ["torch", "numpy", "safetensors"]),
        (
            "import packnet_pl.core",
            [
                *["pytorch_lightning", "lightning", "lightning_fabric", "torchmetrics"],
                *["hydra", "omegaconf", "torchvision", "numba"],
            ],
        ),
        ("from packnet_pl import PackNet", ["pytorch_lightning", "hydra", "torchvision"]),
        ("from packnet_pl import load_packed", ["pytorch_lightning", "hydra", "numba"]),
        ("import packnet_pl.cli.train", ["torch", "pytorch_lightning"]),
        ("import packnet_pl.training", ["lightning"]),
        (
            "import packnet_pl.configuration.run_plan",
            ["tensorboard", "torch.utils.tensorboard", "wandb", "mlflow"],
        ),
        ("import packnet_pl.conf", ["torch", "torchvision", "timm"]),
    ],
)
def test_a_fresh_interpreter_loads_no_more_than_it_needs(statement, absent):
    code = f"import sys; {statement}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_everything_pinned_can_be_imported_from_the_top():
    import packnet_pl

    for name in packnet_pl.__all__:
        assert getattr(packnet_pl, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'PackNett'"):
        _ = packnet_pl.PackNett
