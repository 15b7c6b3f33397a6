"""Sweeps without their training: a job leaves what a run leaves that is as good as its ratio, and fails above 1."""

import json
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from packnet_pl.launch import sweep
from packnet_pl.run_directory import SavedRun, write_run


def install():
    sweep._run = run


def run(command, cwd, prefix):
    words = [word for word in command[3:] if "=" in word]  # without options
    values = {one.key_or_group: one.value() for one in OverridesParser.create().parse_overrides(words)}
    folder, ratio = Path(values["hydra.run.dir"]), values.get("prune.ratio", 0.5)
    if ratio > 1:
        return 2
    write_run(folder, SavedRun(words, None, "train", cwd, {"sequence": {"order": ["a"]}}))
    task = {"name": "a", "num_classes": 2, "prune_ratio": ratio, "test_size": 4}
    results = {"method": "packnet", "arch": values.get("arch", "vgg_small"), "seed": 0, "complete": True}
    results |= {"tasks": [task], "accuracy": [[0.5]], "forgetting": [0.0], "val_now": [ratio], "free": ratio}
    (folder / "results.json").write_text(json.dumps(results))
    return 0
