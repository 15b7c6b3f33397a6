"""A page of a report as data, and how it is written: one HTML file that needs no other, and its figures beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

from packnet_pl.files import replacing
from packnet_pl.names import as_unicode
from packnet_pl.report.style import Draw, Themed, themed_images, write_figure

__all__ = [
    "PAGE_NAME",
    "Block",
    "Code",
    "Fact",
    "Figure",
    "Heading",
    "Link",
    "Page",
    "Section",
    "Table",
    "Text",
    "write_page",
]

PAGE_NAME = "index.html"
"""Of the page of a run, in its ``report`` folder."""


class Fact(NamedTuple):
    """A number worth the head of the page.

    Attributes:
        name: What it is.
        value: With its unit.
    """

    name: str
    value: str


class Link(NamedTuple):
    """A cell that leads to another page.

    Attributes:
        text: What is shown.
        address: Relative to the page, quoted.
    """

    text: str
    address: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Heading:
    """The title of what follows in a section."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its header.

    Attributes:
        caption: What is in it, with units.
        headings: One per column.
        rows: Of cells.
        words: Whether cells are words: these are aligned to the left, and break.
    """

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str | Link]]
    words: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: Of its files, without an ending.
        draw: What it is.
        caption: A sentence or more.
        alt: What a reader who cannot see it should know.
        images: Set when it is drawn.
    """

    name: str
    draw: Draw
    caption: str
    alt: str
    images: Themed | None = None
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Code:
    """Text to copy.

    Attributes:
        caption: What it is.
        text: With its lines.
        folded: Whether it is shown only when asked for.
    """

    caption: str
    text: str
    folded: bool = False
    kind: ClassVar[str] = "code"


Block = Text | Heading | Table | Figure | Code


@dataclass(frozen=True)
class Section:
    """A section.

    Attributes:
        anchor: Its id in the page.
        title: Of it.
        blocks: In order.
    """

    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        title: Of it.
        subtitle: What it is about, in a line.
        notices: What a reader must know before anything else.
        facts: The numbers that most want first.
        sections: In order.
        footer: Where it comes from.
    """

    title: str
    subtitle: str
    notices: Sequence[str]
    facts: Sequence[Fact]
    sections: Sequence[Section]
    footer: str


def write_page(page: Page, path: Path) -> list[Path]:
    """Writes the page's figures as PNG and SVG files beside it, and last the page, with its figures in it.

    Args:
        page: What to write.
        path: Of the page; its folder is made.

    Returns:
        The paths of the files beside it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    written: list[Path] = []
    sections = []
    for section in page.sections:
        blocks = []
        for block in section.blocks:
            if isinstance(block, Figure):
                written += write_figure(block.draw, path.parent / block.name)
                block = replace(block, images=themed_images(block.draw))
            blocks.append(block)
        sections.append(replace(section, blocks=blocks))
    environment = Environment(
        loader=PackageLoader("packnet_pl.report"),
        # Names of tasks, classes and folders come from outside, and must not become HTML.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("page.html").render(page=replace(page, sections=sections))
    with replacing(path) as temporary:
        temporary.write_text(as_unicode(text), encoding="utf-8")
    return written
