"""The page about the architecture is true of the code: its layers, the functions that its walks name, its figure."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from tests.test_layers import LAYERS, imported_modules

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "packnet_pl"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
KNOWS = {"Hydra": ("hydra", "omegaconf"), "Lightning": ("pytorch_lightning",), "torch": ("torch",)}


@pytest.fixture(scope="module")
def figure():
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "docs" / "figures" / "architecture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def definitions(path):
    """Names that a module defines, those in its classes as ``Class.name``."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        yield from (name.id for name in ast.walk(node) if isinstance(node, ast.Assign) and isinstance(name, ast.Name))
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef))


def modules_of(layer):
    return list(SOURCE.glob("*.py") if layer == "top" else (SOURCE / layer).rglob("*.py"))


def test_the_table_has_every_layer_the_last_one_first(figure):
    assert [layer.name for layer in figure.layers(PAGE)] == [*reversed(LAYERS), "top"]


def test_each_layer_imports_what_the_table_says(figure):
    for layer in figure.layers(PAGE):
        imported = {name.partition(".")[0] for path in modules_of(layer.name) for name in imported_modules(path)}
        known = [knows for knows, libraries in KNOWS.items() if imported.intersection(libraries)]
        assert layer.knows == (known or ["neither"])[0], layer.name


def test_every_step_of_a_walk_is_in_the_code(figure):
    walks = figure.walks(PAGE)
    assert len(walks) == 5
    for title, steps in walks.items():
        for step in steps:
            assert step.name in definitions(SOURCE / step.path), f"{title}: {step.path} has no {step.name}"


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_is_named_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./]+\.(?:py|md|yaml|yml|cfg|toml|txt))`", text))
    assert named
    for name in named:
        assert (SOURCE / name).is_file() or (ROOT / name).is_file(), name


def test_the_figure_is_that_of_the_page(figure):
    message = "run: python docs/figures/architecture.py"
    assert figure.FIGURE.read_text(encoding="utf-8") == figure.draw(PAGE), message
