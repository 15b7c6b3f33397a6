"""``packnet-train``: trains a sequence of tasks into one network."""

import os
import signal
import sys
from types import FrameType

from packnet_pl.errors import answering_errors, this_program

__all__ = ["main"]

_ONLY_SHOWS = ("hydra_help", "cfg", "info", "shell_completion")


def main() -> None:
    """Runs the command line."""
    for signum in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(signum, _leave)
    with answering_errors(this_program()):
        # Imported here: Ctrl-C is handled by then.
        from packnet_pl.configuration.arguments import parse_arguments
        from packnet_pl.configuration.terminal import set_up
        from packnet_pl.ranks import this_process

        set_up()
        arguments = parse_arguments()
        if arguments.help:
            from packnet_pl.configuration.help import help_text

            sys.stdout.write(help_text())
        elif any(getattr(arguments, option) for option in _ONLY_SHOWS):
            from packnet_pl.launch.hydra_job import hand_to_hydra

            hand_to_hydra(arguments, lambda _: None)
        elif arguments.multirun:
            from packnet_pl.launch.sweep import sweep

            sweep(arguments, this_process())
        else:
            from packnet_pl.launch.start import start

            start(arguments, this_process())


def _leave(signum: int, frame: FrameType | None) -> None:
    """Ends the process on a signal, until the run itself listens to signals."""
    print(f"{this_program()}: stopped by {signal.Signals(signum).name} before training began", file=sys.stderr)  # noqa: T201
    os._exit(128 + signum)


if __name__ == "__main__":
    main()
