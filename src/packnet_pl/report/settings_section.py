"""Tells on the page of a run how it was started: command, settings, epochs and rates, versions, configuration."""

from collections.abc import Mapping
from typing import Any

import yaml

from packnet_pl.report.page import Block, Code, Section, Table, Text
from packnet_pl.results import Results
from packnet_pl.run_directory import SavedRun, command_line

__all__ = ["settings_section"]


def settings_section(results: Results | None, saved: SavedRun | None) -> Section:
    """Returns the section of a page with command, settings, epochs, rates, versions and configuration of a run.

    Args:
        results: None if no task is finished.
        saved: How the run was started; None if that is not recorded.
    """
    blocks: list[Block] = []
    if saved is not None:
        blocks.append(Code("The command that started the run:", command_line(saved)))
    if results is not None:
        facts = [["method", results.method], ["backbone", results.arch], ["seed", str(results.seed)]]
        facts += [[name, _word(value)] for name, value in results.settings.items()]
        blocks.append(Table("Settings", ["setting", "value"], facts, words=True))
    if saved is not None and (rows := _schedule(saved.config)):
        headings = ["task", "epochs, train", "rate", "epochs, retrain", "rate"]
        blocks.append(Table("Epochs and learning rates", headings, rows))
    if results is not None:
        versions = [[name, value] for name, value in results.versions.items()]
        blocks.append(Table("Versions", ["library", "version"], versions, words=True))
    if saved is not None:
        text = yaml.safe_dump(saved.config, allow_unicode=True, sort_keys=False)
        blocks.append(Code("The whole configuration", text, folded=True))
    if not blocks:
        blocks.append(Text("How the run was started is not recorded."))
    return Section("settings", "Settings and versions", blocks)


def _schedule(config: Mapping[str, Any]) -> list[list[str]]:
    """Returns a row per task of the configuration: epochs and learning rate of both phases."""
    tasks = config["sequence"].get("tasks") or {}
    return [
        [name, *(str(task.get(phase, {}).get(key, "-")) for phase in ("train", "retrain") for key in ("epochs", "lr"))]
        for name, task in tasks.items()
    ]


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
