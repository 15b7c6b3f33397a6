"""Sweeps without their training: a job leaves what a run leaves that is as good as its ratio, and fails above 1."""

from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from packnet_pl.launch import sweep_job
from packnet_pl.run_directory import SavedRun, write_run
from tests.support import results


def install():
    sweep_job._run = run


def run(command, cwd, prefix):
    words = [word for word in command[3:] if "=" in word]  # without options
    values = {one.key_or_group: one.value() for one in OverridesParser.create().parse_overrides(words)}
    folder, ratio = Path(values["hydra.run.dir"]), values.get("prune.ratio", 0.5)
    if ratio > 1:
        return 2
    write_run(folder, SavedRun(words, None, "train", cwd, {"sequence": {"order": ["a"]}}))
    arch = values.get("arch", "vgg_small")
    results.write_run(folder, (ratio,), (0.5,), names=["a"], arch=arch, val_now=[ratio], free=ratio)
    return 0
