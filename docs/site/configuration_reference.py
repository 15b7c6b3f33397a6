"""Writes docs/configuration.md from the configurations: python docs/site/configuration_reference.py.

Each group of choices, each choice with its first line, and of each choice its keys, with default and comment.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parent.parent.parent
CONF = ROOT / "conf"
PAGE = ROOT / "docs" / "configuration.md"
HEAD = """\
# Configuration reference

Every key of `packnet-train`, with its default. This page is written from the files in `conf/` by
`python docs/site/configuration_reference.py`; a test holds it against them. `packnet-train --cfg job` shows the values
that a command line comes to, and `GROUP=CHOICE` takes a file of a group: `optim=adamw`, `experiment=paper/vgg16`.

`???` has no default and has to be given. `${...}` takes the value of another key. A choice marked * is the default.
"""
# In the order of a run; Hydra's own logging set-ups are none of a user's choices.
GROUPS = {
    "sequence": "The tasks and their order; `sequence.tasks.NAME` has the options of one.",
    "data": "The images of a task, below `sequence.tasks.NAME.data`: `data@sequence.tasks.NAME.data=CHOICE`.",
    "arch": "The network. `arch=` also takes a torchvision name, or `timm/NAME`.",
    "prune": "Which weights a task gives up.",
    "mask": "Which weights of earlier tasks a task computes with.",
    "method": "PackNet, or what it is compared with.",
    "optim": "Optimizer and schedule of every phase; epochs and rates are the tasks' own.",
    "trainer": "Devices, precision and strategy.",
    "logger": "Where learning curves go.",
    "callbacks": "Callbacks of Lightning: `'callbacks=[NAME,NAME]'`.",
    "debug": "Smaller runs, for trials.",
    "experiment": "Several choices by one name.",
}


class Key(NamedTuple):
    """A key of a configuration, with its default and comment as they are written."""

    name: str
    default: str
    comment: str


def keys(text: str) -> Iterator[Key]:
    """Yields the keys of a YAML text, those inside of others as ``outer.inner``."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(node, yaml.MappingNode):
        yield from _keys(node, text.splitlines(), "")


def _keys(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[Key]:
    for name, value in node.value:
        if name.value == "defaults" and not prefix:
            continue
        path = f"{prefix}{name.value}"
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from _keys(value, lines, f"{path}.")
            continue
        begin, end = value.start_mark, value.end_mark
        last = lines[end.line - 1] if end.column == 0 else lines[end.line]
        written = lines[begin.line][begin.column : end.column] if begin.line == end.line else _flat(value)
        comment = re.search(r"(?:^|\s)# ?(.*)$", last[end.column :] if end.column else "")
        yield Key(path, written or "null", comment[1] if comment else "")


def _flat(node: yaml.Node) -> str:
    value = yaml.SafeLoader("").construct_document(node)
    written: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return written.strip()


def made_of(text: str) -> list[str]:
    """Returns what stands in a configuration's defaults list, a line each."""
    entries = (yaml.safe_load(text) or {}).get("defaults", [])
    named = [f"{key}={value}" for entry in entries if isinstance(entry, dict) for key, value in entry.items()]
    return [re.sub(r"^(override )?/", "", name) for name in named if "hydra/" not in name]


def described(text: str) -> str:
    """Returns the first lines of a configuration that say what it is."""
    lines = []
    for line in text.splitlines():
        if line.startswith("# @"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return escaped(" ".join(lines))


def escaped(text: str) -> str:
    """Returns a text that Markdown shows as it is."""
    return text.replace("<", "&lt;").replace("*", "\\*").replace("|", "\\|")


def table(found: list[Key]) -> Iterator[str]:
    """Yields the rows of a table of keys."""
    if found:
        yield "| key | default | |\n|---|---|---|"
    for key in found:
        default = key.default.replace("|", "\\|")
        yield f"| `{key.name}` | `{default}` | {escaped(key.comment)} |"


def section(group: str, about: str, default: str) -> Iterator[str]:
    """Yields the lines about a group; of choices with the same keys the keys stand once."""
    yield f"\n## {group}\n\n{about}\n"
    seen: dict[tuple[Key, ...], str] = {}
    for path in sorted((CONF / group).rglob("*.yaml")):
        choice = path.relative_to(CONF / group).with_suffix("").as_posix()
        text = path.read_text(encoding="utf-8")
        found = list(keys(text))
        yield f"\n### {group}={choice}{' *' if choice == default else ''}\n\n{described(text)}\n"
        parts = made_of(text)
        if parts:
            yield "Made of " + ", ".join(f"`{part}`" for part in parts) + ".\n"
        own = [key for key in found if key.name not in ("_target_", "path") and not key.name.startswith("read")]
        if len(own) > 3 and tuple(own) in seen:
            yield f"Its keys are those of `{group}={seen[tuple(own)]}`.\n"
        else:
            seen[tuple(own)] = choice
            yield from table(found)


def page() -> str:
    """Returns the page."""
    main = (CONF / "train.yaml").read_text(encoding="utf-8")
    chosen = {name.partition("=")[0]: name.partition("=")[2] for name in made_of(main)}
    top = [key for key in keys(main) if not key.name.startswith("hydra.")]
    lines = [HEAD, "\n## Keys of a run\n", *table(top)]
    lines.append("\n`hydra.run.dir` names the run directory, `hydra.sweep.dir` that of a sweep.")
    for group in GROUPS:
        if (CONF / group).is_dir():
            lines += section(group, GROUPS[group], chosen.get(group, ""))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
