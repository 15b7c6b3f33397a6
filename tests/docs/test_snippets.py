"""Every block of code on the pages runs, or is read: Python, YAML, JSON; and a test knows the kind of each block.

All Python of a page is one script, from top to bottom, as a reader would try it. What a page takes for granted (a
packed file, a loader) is in ``setup/``. Of a block marked ``needs: data`` or ``needs: gpu`` the imports are tried.
"""

import ast
import json

import pytest
import yaml

from tests.support import ROOT
from tests.support.commands import run
from tests.support.pages import blocks, sources

SETUP = ROOT / "tests" / "docs" / "setup"
PAGES = sources()
NEEDS = {"data", "gpu"}
# Its blocks are pieces of a loop, which is there.
ELSEWHERE = {"docs/reinforcement.md": "tests/test_examples_control.py"}
SCRIPTS = {
    page: found
    for page, text in PAGES.items()
    if page not in ELSEWHERE and (found := [block for block in blocks(text) if block.language == "python"])
}


def is_run(block):
    return block.language == "python" and (block.mark is None or block.mark[0] != "needs")


def imports_of(block):
    nodes = [node for node in ast.parse(block.text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(ast.unparse(node) for node in nodes)


@pytest.mark.slow
@pytest.mark.parametrize("page", SCRIPTS)
def test_the_python_of_a_page_runs(page, tmp_path):
    lines = [""] * PAGES[page].count("\n")
    for block in SCRIPTS[page]:
        if block.mark and block.mark[0] == "file":
            (tmp_path / block.mark[1]).write_text(block.text)
        text = block.text if is_run(block) else imports_of(block)
        for number, line in enumerate(text.splitlines(), start=block.line):
            lines[number] = line  # an error's line is that of the page
    lines[0] = "import sys; sys.path.insert(0, '')"
    setup = SETUP / f"{page.replace('/', '-').removesuffix('.md')}.py"
    if setup.exists():
        lines[0] += f"; exec(compile(open({str(setup)!r}).read(), {str(setup)!r}, 'exec'))"
    name = f"{page.replace('/', '-')}.py"
    (tmp_path / name).write_text("\n".join(lines))
    done = run("python", name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_kind_that_is_tried(page):
    for block in blocks(PAGES[page]):
        where = f"{page}, block at line {block.line}"
        assert block.language in {"", "bash", "python", "yaml", "json", "text"}, (
            f"{where}: {block.language or 'no language'}"
        )
        if block.mark is not None:
            assert block.mark[0] in {"needs", "file"}, where
            assert block.mark[0] != "needs" or block.mark[1] in NEEDS, where
        if block.language == "yaml":
            assert yaml.safe_load(block.text), where
        elif block.language == "json":
            json.loads(block.text)


def test_what_is_tried_elsewhere_is_tried_there():
    for page, test in ELSEWHERE.items():
        assert page in (ROOT / test).read_text("utf-8")


def test_each_setup_has_its_page():
    pages = {page.replace("/", "-").removesuffix(".md") for page in SCRIPTS}
    assert {path.stem for path in SETUP.glob("*.py")} <= pages
