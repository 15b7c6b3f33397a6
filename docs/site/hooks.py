"""Hooks of the documentation site: pages from outside of ``docs/``, the API reference, and links among them.

The pages are written for readers of the repository, where they link to files outside of ``docs/``. Here those files
become pages of the site, and links lead there.
"""

import json
import posixpath
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
FROM_ROOT = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "REPRODUCIBILITY.md",
    "benchmarks/README.md",
    "examples/README.md",
    "notebooks/README.md",
]
PACKAGES = [
    "packnet_pl",
    *(f"packnet_pl.{layer}" for layer in ("core", "training", "packed", "models", "data")),
]
LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".sh": "bash", ".ipynb": "json"}
FENCE = re.compile(r"(^ *```.*?^ *```+)", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|data:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def site_path(path: str) -> str:
    """Returns where a file of the repository is in the site: ``docs/data.md`` at ``data.md``, others further down."""
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}.md" if Path(path).suffix in LANGUAGES else f"repository/{path}"


def with_links(text: str, change: Callable[[re.Match[str]], str]) -> str:
    """Returns a page with each relative link outside of its code changed."""
    parts = FENCE.split(text)
    return "".join(part if FENCE.fullmatch(part) else LINK.sub(change, part) for part in parts)


def relinked(text: str, source: str) -> str:
    """Returns the page at ``source``, a path in the repository, with links to where their targets are in the site."""
    here = posixpath.dirname(site_path(source))

    def change(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        return posixpath.relpath(site_path(target), here or ".") + (link[2] or "")

    return with_links(text, change)


def links(text: str, source: str) -> Iterator[str]:
    """Yields the files of the repository that a page links to."""
    for link in LINK.finditer(FENCE.sub("", text)):
        yield posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))


def page_of(path: str) -> str:
    """Returns the markdown of a file outside of ``docs/``: itself, or its code."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".ipynb"):
        return relinked(notebook(text), path)
    language = LANGUAGES.get(Path(path).suffix)
    if language is None:
        return relinked(text, path)
    return f"# {path}\n\n````{language}\n{text}````\n"


def notebook(text: str) -> str:
    """Returns the markdown of a notebook: its text, its code, and what that printed and drew."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"````python\n{source}\n````")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![Output](data:image/png;base64,{''.join(data['image/png']).replace(chr(10), '')})")
            elif printed := "".join(output.get("text", data.get("text/plain", []))):
                parts.append(f"````text\n{printed.rstrip()}\n````")
    return "\n\n".join(parts) + "\n"


def outside_pages() -> dict[str, str]:
    """Returns the markdown of pages from outside of ``docs/`` and what they link to, by their path in the site."""
    pages: dict[str, str] = {}
    waiting = [*FROM_ROOT, *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if not path.startswith("docs/"):
            pages[site_path(path)] = page_of(path)
        if path.endswith(".md"):
            for target in links((ROOT / path).read_text(encoding="utf-8"), path):
                if target not in seen and (ROOT / target).is_file() and Path(target).suffix in {".md", *LANGUAGES}:
                    seen.add(target)
                    waiting.append(target)
    return pages


def api_pages() -> dict[str, str]:
    """Returns a page for each package, with the public names of its ``__all__``."""
    pages = {}
    for package in PACKAGES:
        names = import_module(package).__all__
        pages[f"api/{package}.md"] = f"# {package}\n\n" + "\n".join(f"::: {package}.{name}\n" for name in names)
    return pages


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that do not lie in ``docs/``."""
    for path, text in {**outside_pages(), **api_pages()}.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes what docstrings write for Sphinx, roles of names and the colons before a block, plain again."""
    if not page.file.src_uri.startswith("api/"):
        return html
    html = re.sub(r":(?:class|func|meth|data|mod):<code>packnet_pl\.(?:\w+\.)*(\w+)</code>", r"<code>\1</code>", html)
    return re.sub(r":(?:class|func|meth|data|mod):<code>", "<code>", html).replace("::</p>", ":</p>")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads the links of a page in ``docs/`` to where their targets are in the site."""
    return markdown if page.file.generated_by else relinked(markdown, f"docs/{page.file.src_uri}")
