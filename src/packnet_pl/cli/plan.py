"""``packnet-plan``: shows what ``packnet-train`` would do with the same overrides, without training."""

import sys

from packnet_pl.errors import UsageError, answering_errors

__all__ = ["main"]

PROGRAM = "packnet-plan"
_SHOWN_ELSEWHERE = ("multirun", "cfg", "info", "shell_completion", "hydra_help")
USAGE = """\
packnet-plan [GROUP=CHOICE ...] [KEY=VALUE ...] takes the words of packnet-train, and shows the tasks, their classes and
images, the weights that each will own, what stays free, storage, epochs, steps, the images that the last batch of
each epoch leaves out, and about how long it takes, without training anything.
"""


def main() -> None:
    """Runs the command line."""
    with answering_errors(PROGRAM):
        # Imported here: Ctrl-C is handled by then.
        from packnet_pl.configuration.arguments import parse_arguments
        from packnet_pl.configuration.run_config import configure
        from packnet_pl.configuration.terminal import set_up
        from packnet_pl.launch.prepare import build, phases_to_repeat
        from packnet_pl.run_directory import read_run

        set_up()
        arguments = parse_arguments()
        if arguments.help:
            sys.stdout.write(USAGE)
            return
        asked = [name for name in _SHOWN_ELSEWHERE if getattr(arguments, name, None)]
        if asked:
            raise UsageError(
                f"--{asked[0].replace('_', '-')} is for packnet-train; {PROGRAM} shows what one run would do"
            )
        run = configure(arguments)
        if run.config.resume:
            phases_to_repeat(run, read_run(run.folder))
        config, parts = run.config, build(run).parts

        from packnet_pl.configuration.plan_text import (
            growth_lines,
            plan_table,
            recalibration_lines,
            setting_lines,
            storage_lines,
        )
        from packnet_pl.configuration.plan_times import time_lines
        from packnet_pl.console import output_console

        console = output_console()
        console.print(plan_table(config, parts))
        lines = [*time_lines(config, parts), *storage_lines(parts), *growth_lines(parts)]
        lines += [*setting_lines(config), *recalibration_lines(config)]
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
