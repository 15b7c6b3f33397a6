"""Every link on the pages leads somewhere: files and sections by their names; addresses elsewhere are listed only."""

import posixpath
import re

import pytest

from tests.support import ROOT
from tests.support.pages import blocks, prose, sources

PAGES = sources()
LINK = re.compile(r"\]\(([^()\s]+(?:\([^()\s]*\))?[^()\s]*)\)")
ADDRESS = re.compile(r"https://[\w./%#?=&~()-]+")


def anchors(text):
    """The anchors of a page's headings, as GitHub and the site make them."""
    lines = text.splitlines()
    for block in blocks(text):
        for number in range(block.line - 1, block.line + block.text.count("\n") + 1):
            lines[number] = ""
    seen = {}
    for line in lines:
        heading = re.match(r"#+ (.+)", line)
        if heading:
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1])
            anchor = re.sub(r"[^\w\- ]", "", plain).strip().lower().replace(" ", "-")
            seen[anchor] = seen.get(anchor, -1) + 1
            yield anchor if not seen[anchor] else f"{anchor}-{seen[anchor]}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in LINK.findall(prose(PAGES[page])):
        if ADDRESS.fullmatch(target):
            continue
        path, _, section = target.partition("#")
        found = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
        assert (ROOT / found).is_file(), f"{page}: {target}"
        if section:
            assert section in anchors((ROOT / found).read_text("utf-8")), f"{page}: {target}"


def test_the_anchors_are_those_of_github():
    text = "# One, two: `three`\n## A [link](x.md)\n## Twice\n## Twice\n```bash\n# none\n```\n"
    assert list(anchors(text)) == ["one-two-three", "a-link", "twice", "twice-1"]
