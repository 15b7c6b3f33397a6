"""Overrides, KEY=VALUE on a command line, as Hydra reads them: keys, quoting, merging, and tasks to add."""

import json
import re
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from packnet_pl.configuration.arch_names import short_names
from packnet_pl.errors import UsageError
from packnet_pl.names import is_unicode, shown

__all__ = ["MAPPINGS", "added_tasks", "check_unicode", "escaped", "key_of", "mapping_of", "merge_overrides", "quoted"]

MAPPINGS = ("sequence.folders", "sequence.add")
"""Keys whose value may be a mapping in quotes, read as YAML: no other has names of the user's own."""


def check_unicode(what: str, node: Any) -> None:
    """Refuses text that is not valid Unicode, which Hydra and YAML do not take.

    Args:
        what: What it is, for the message.
        node: A text, or dicts and lists of them.

    Raises:
        UsageError: If a text in it is no valid Unicode, as names of files can be.
    """
    if isinstance(node, dict):
        for key, child in node.items():
            check_unicode(f"{what}.{key}" if what else str(key), child)
    elif isinstance(node, list):
        for child in node:
            check_unicode(what, child)
    elif isinstance(node, str) and not is_unicode(node):
        raise UsageError(
            f"{what} is '{shown(node)}', which is not valid Unicode (UTF-8), and a run saves it as text: rename it, or "
            "give a link to it that has another name"
        )


def merge_overrides(saved: list[str], given: list[str]) -> list[str]:
    """Returns the overrides of two command lines: the last one of each key, but all tasks of ``sequence.add``.

    A network's name counts as one key, also where a run of version 0.1 saved it as two.

    Raises:
        HydraException: If an override cannot be parsed.
    """
    added: dict[str, Any] = {}
    overrides: dict[str, str] = {}
    # What was accepted once is asked again the next time.
    kept = [override for override in short_names(saved) if key_of(override) != "changed_data"]
    for number, override in enumerate([*kept, *given]):
        key = key_of(override)
        if key == "sequence.add":
            new = added_tasks(override)
            # The run goes on in the folder where it was begun: what is given now is meant from here.
            added |= new if number < len(kept) else {name: _from_here(path) for name, path in new.items()}
        elif key not in ("hydra.run.dir", "resume"):
            overrides[key] = override
    if any(added.values()) and not all(name.isascii() for name in added):
        overrides["sequence.add"] = f"sequence.add={quoted(json.dumps(added, ensure_ascii=False))}"
    elif any(added.values()):
        parts = [f"{escaped(name)}: {'null' if path is None else quoted(path)}" for name, path in added.items()]
        overrides["sequence.add"] = f"sequence.add={{{', '.join(parts)}}}"
    elif added:
        overrides["sequence.add"] = f"sequence.add=[{','.join(map(quoted, added))}]"
    return list(overrides.values())


def _from_here(path: Any) -> Any:
    relative = isinstance(path, str) and path and not path.startswith(("~", "$"))
    return str(Path(path).absolute()) if relative else path


def quoted(value: object) -> str:
    """Returns ``value`` as Hydra reads a string on the command line."""
    text = str(value)
    if re.fullmatch(r"[A-Za-z_/.][\w./-]*", text, re.ASCII):  # Hydra knows no other letters outside of quotes
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def escaped(key: str) -> str:
    """Returns ``key`` as Hydra reads the key of a mapping, which cannot be quoted."""
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", key)


def added_tasks(override: str) -> dict[str, Any]:
    """Returns the tasks of an override ``sequence.add=...``: name -> folder, or None for one that the sequence knows.

    Raises:
        UsageError: If it is neither a list nor a mapping.
    """
    value = mapping_of("sequence.add", OverridesParser.create().parse_override(override).value())
    if isinstance(value, dict):
        return {str(name): path for name, path in value.items()}
    if not isinstance(value, list):
        raise UsageError(f"{override!r}: give a list of names, or names with folders: 'sequence.add=[new]'")
    return dict.fromkeys(map(str, value))


def mapping_of(key: str, value: Any) -> Any:
    """Parses a mapping that is given in quotes, '"{vögel: /data}"'; other values as they are.

    Hydra takes names of plain letters only where a mapping is not in quotes.

    Args:
        key: One of ``MAPPINGS``, for the message.
        value: Of it.

    Raises:
        UsageError: If it begins as a mapping, and is none.
    """
    if not isinstance(value, str) or not value.startswith("{"):
        return value
    try:
        read = OmegaConf.create(value)
    except Exception as error:  # YAML has many ways to be wrong
        twice = re.search(r"found duplicate key (.+)", str(error))
        reason = f"{twice.group(1)!r} stands in it twice" if twice else "it is no mapping, {name: folder}"
        raise UsageError(f"{key} is {value!r}: {reason}") from error
    return OmegaConf.to_container(read) if OmegaConf.is_dict(read) else value


def key_of(override: str) -> str:
    """Returns the key, or the config group, that ``override`` sets."""
    return re.sub(r"^[+~]*", "", override.partition("=")[0])
