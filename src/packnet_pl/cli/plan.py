"""``packnet-plan``: what ``packnet-train`` would do with the same words, without training."""

import sys

from packnet_pl.configuration.compose import prepare, set_up, sort_arguments
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
    set_up()
    with answering_errors(PROGRAM):
        arguments = sort_arguments()
        if arguments.help:
            sys.stdout.write(USAGE)
            return
        asked = [name for name in _SHOWN_ELSEWHERE if getattr(arguments, name, None)]
        if asked:
            raise UsageError(
                f"--{asked[0].replace('_', '-')} is for packnet-train; {PROGRAM} shows what one run would do"
            )
        config, _, parts = prepare(arguments, to_train=False)
        from rich.console import Console

        from packnet_pl.configuration.plan_text import plan_table, storage_lines, time_lines
        from packnet_pl.report import TABLE_WIDTH

        console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
        console.print(plan_table(config, parts))
        for line in (*time_lines(config, parts), *storage_lines(parts)):
            console.print(line, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
