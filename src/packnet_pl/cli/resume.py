"""``packnet-resume``: resumes a run that was killed, or adds tasks to it, by starting ``packnet-train`` again."""

import os
import shlex
import sys
from pathlib import Path

from packnet_pl.command_line import check_alone, version_text
from packnet_pl.configuration.mistyped import check_overrides
from packnet_pl.configuration.overrides import added_tasks, check_unicode, key_of, merge_overrides, quoted
from packnet_pl.counting import counted
from packnet_pl.errors import STARTED_BY, UsageError, answering_errors
from packnet_pl.names import shown
from packnet_pl.ranks import this_process
from packnet_pl.results import is_complete
from packnet_pl.run_directory import read_run

__all__ = ["main"]

PROGRAM = "packnet-resume"
USAGE = """\
packnet-resume RUN_DIR [KEY=VALUE ...] goes on with the run in RUN_DIR from wherever it ended, with the settings that it
was started with. Words that are harmless may be given: trainer.devices=, optim.num_workers=, logger=, ...
A task that is not finished may get others, as sequence.tasks.NAME.train.lr=, and begins anew with them.
'sequence.add=[NAME]' adds a task that the sequence knows, 'sequence.add={NAME: FOLDER}' one of your own images.
"""


def main() -> None:  # noqa: C901
    """Runs the command line: replaces the process by ``packnet-train``."""
    with answering_errors(PROGRAM):
        arguments = sys.argv[1:]
        check_alone(arguments)
        if arguments == ["--version"]:
            print(version_text())  # noqa: T201
            return
        if not arguments or arguments[0] in ("-h", "--help"):
            sys.stdout.write(USAGE)
            sys.exit(0 if arguments else 2)
        folder, given = Path(arguments[0]).absolute(), arguments[1:]
        saved = read_run(folder)
        if saved is None:
            raise UsageError(f"there is no run in {folder}: it has no run.yaml; start one with packnet-train")
        check_unicode("the run directory", str(folder))
        check_unicode("a word of the command line", given)
        for override in given:
            if override.startswith("-"):
                raise UsageError(f"{override!r} is not of the form KEY=VALUE; options are not taken here")
            if key_of(override) == "hydra.run.dir" or (key_of(override) == "resume" and override != "resume=true"):
                raise UsageError(
                    f"{override!r} would be passed over: {PROGRAM} goes on in {shown(folder)}; leave it out"
                )
        check_overrides(given, sweep=False)
        order = list(saved.config["sequence"]["order"])
        adding = [name for override in given if key_of(override) == "sequence.add" for name in added_tasks(override)]
        known = [name for name in adding if name in order]
        if known:
            raise UsageError(
                f"sequence.add names {known[0]!r}, which is in the run already: {order}; choose a new name"
            )
        if is_complete(folder, saved) and not given:
            if this_process().is_main:
                sys.stdout.write(
                    f"{folder} is complete: {counted(len(order), 'task')} ({', '.join(order)}). To add one: "
                    f"packnet-resume {shlex.quote(arguments[0])} 'sequence.add=[NAME]'\n"
                )
            return
        options = ["--config-dir", saved.config_dir] if saved.config_dir else []
        options += ["--config-name", saved.config_name] if saved.config_name != "train" else []
        new = [*options, *merge_overrides(saved.overrides, given), "resume=true", f"hydra.run.dir={quoted(folder)}"]
        if this_process().is_main:
            sys.stderr.write(f"packnet-train {shlex.join(new)}\n")
            sys.stderr.flush()
        if Path(saved.cwd).is_dir():
            os.chdir(saved.cwd)
        os.environ[STARTED_BY] = PROGRAM
        os.execv(sys.executable, [sys.executable, "-m", "packnet_pl.cli.train", *new])


if __name__ == "__main__":
    main()
