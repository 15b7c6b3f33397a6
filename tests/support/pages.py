"""The pages of the documentation, and the blocks of code in them."""

import json
import re
from typing import NamedTuple

from tests.support import ROOT

FENCE = re.compile(r" *```+")
MARK = re.compile(r" *<!-- (\w+): (\S+) -->$")


class Block(NamedTuple):
    """What stands between two fences; ``mark`` is that of the comment before it, as ("needs", "gpu"), or None."""

    line: int
    language: str
    text: str
    mark: tuple[str, str] | None


def sources():
    """The pages that people read, by their path in the repository; of notebooks the text between their cells."""
    found = {}
    for pattern in ("*.md", "docs/*.md", "examples/*.md", "benchmarks/*.md", "notebooks/*.md"):
        found.update({path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in ROOT.glob(pattern)})
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        found[path.relative_to(ROOT).as_posix()] = "\n\n".join(texts)
    return found


def blocks(text):
    """Yields the blocks of a page."""
    mark, begun, language, indent, kept = None, None, "", "", []
    for number, line in enumerate(text.splitlines(), start=1):
        fence = FENCE.match(line)
        if begun is not None and fence and line.strip() == fence[0].strip():
            yield Block(begun, language, "".join(kept), mark)
            begun, mark = None, None
        elif begun is not None:
            kept.append(line.removeprefix(indent) + "\n")
        elif fence:
            begun, language, kept = number, line.strip().lstrip("`"), []
            indent = " " * (len(line) - len(line.lstrip()))
        elif line.strip():
            found = MARK.match(line)
            mark = None if found is None else (found[1], found[2])


def prose(text):
    """Returns a page without its blocks and without code in a line."""
    lines = text.splitlines()
    for block in blocks(text):
        for number in range(block.line - 1, block.line + block.text.count("\n") + 1):
            lines[number] = ""
    return re.sub(r"`[^`\n]*`", "", "\n".join(lines))
