"""The notebooks are as their readers want them: executed from top to bottom, small, and of public names alone."""

import ast
import re
from base64 import b64decode

import nbformat
import pytest

from notebooks.run import differences, texts
from tests.support import ROOT

FOLDER = ROOT / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
LARGEST_NOTEBOOK, LARGEST_IMAGE = 500_000, 60_000

notebooks = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def imports_of(path):
    for cell in code_cells(path):
        if cell.source.startswith("%%"):  # of another language
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom):
                yield from ((node.module, alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from ((alias.name, None) for alias in node.names)


def public_names(module):
    """What a module's ``__all__`` lists, read without importing it."""
    stem = ROOT / "src" / module.replace(".", "/")
    source = next(path for path in (stem / "__init__.py", stem.with_suffix(".py")) if path.exists())
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


def test_there_are_five_and_the_readme_names_each():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [path.name[0] for path in PATHS] == list("12345")
    assert set(re.findall(r"\]\(([\w.]+ipynb)\)", readme)) == {path.name for path in PATHS}


@notebooks
def test_it_was_executed_from_top_to_bottom_without_an_error(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
    # Warnings and bars of progress.
    assert not [output.text for output in outputs if output.get("name") == "stderr"]


@notebooks
def test_it_is_small_and_names_no_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < LARGEST_NOTEBOOK
    assert not re.findall(r"/(?:home|root|tmp|work|Users|usr)/|\\u001b|file://", text)
    images = [
        o.data["image/png"] for cell in code_cells(path) for o in cell.outputs if "image/png" in o.get("data", ())
    ]
    assert images
    assert all(len(b64decode(image)) < LARGEST_IMAGE for image in images)
    metadata = nbformat.read(path, as_version=4).metadata
    assert metadata == {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


@notebooks
def test_it_imports_public_names_alone(path):
    found = [(module, name) for module, name in imports_of(path) if module.split(".")[0] == "packnet_pl"]
    assert found
    for module, name in found:
        assert name in public_names(module), f"{module}.{name}"


def cell(*outputs):
    return nbformat.v4.new_code_cell(outputs=list(outputs))


def printed(text):
    return cell(nbformat.v4.new_output("stream", name="stdout", text=text))


@pytest.mark.parametrize(
    ("committed", "now", "same"),
    [
        ("error 8.49 %", "error 8.49 %", True),
        ("error 8.49 %", "error 11.02 %", True),  # another processor
        ("error  8.49 %", "error 11.02 %", True),  # in a column
        ("error 8.49 %", "error 48.49 %", False),
        ("error 8.49 %", "loss 8.49 %", False),
        ("weights 71,496", "weights 71,497", False),  # a count
        ("614,729 bytes", "614,733 bytes", True),
        ("614,729 bytes", "1,214,733 bytes", False),
        ("to the bit: True", "to the bit: False", False),
        ("rate 1.0e-3", "rate 1.0", True),
        ("loss 0.5", "loss nan", False),
        ("loss 0.5", "loss 0.5 0.5", False),
    ],
)
def test_what_is_no_measurement_must_come_out_as_it_is_written(committed, now, same):
    assert (differences(texts(printed(committed)), texts(printed(now))) == []) == same


def test_an_output_that_is_missing_is_noticed():
    image = nbformat.v4.new_output("display_data", data={"image/png": "AAAA", "text/plain": "<Figure>"})
    assert differences(texts(cell(image)), texts(cell(image))) == []
    assert differences(texts(cell(image)), texts(cell()))
    assert differences(texts(cell(image)), texts(printed("an image of mine")))
