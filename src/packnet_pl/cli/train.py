"""``packnet-train``: trains a sequence of tasks into one network."""

import signal
import sys

from packnet_pl.errors import answering_errors, leave_on, this_program

__all__ = ["main"]

_ONLY_SHOWS = ("hydra_help", "cfg", "info", "shell_completion")


def main() -> None:
    """Runs the command line."""
    for signum in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(signum, leave_on)  # until the run itself listens
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


if __name__ == "__main__":
    main()
