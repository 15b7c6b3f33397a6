"""The command line of ``packnet-train`` and ``packnet-plan``: Hydra's options, and overrides (KEY=VALUE), checked."""

import re
import sys
from argparse import Namespace
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser  # Hydra has no public one

from packnet_pl.choices import nearest
from packnet_pl.command_line import check_alone, version_text
from packnet_pl.configuration.mistyped import check_overrides
from packnet_pl.configuration.overrides import check_unicode
from packnet_pl.configuration.schema import phase_defaults
from packnet_pl.errors import UsageError

__all__ = ["parse_arguments"]

_OF_PHASE = re.compile(rf"sequence\.(tasks\.[^.=]+|task)\.(train|retrain)\.({'|'.join(phase_defaults())})=")
_EXCLUSIVE = ("run", "multirun", "cfg", "info", "shell_completion")  # Hydra takes one of these options


def parse_arguments() -> Namespace:
    """Parses ``sys.argv``, in which options and overrides may stand in any order.

    Returns:
        What Hydra's parser finds, with the overrides in ``overrides`` and all other words in ``options``.

    Raises:
        UsageError: If an option is unknown, two are given that exclude each other, or Hydra cannot read an override.
    """
    check_alone(sys.argv[1:])
    check_unicode("a word of the command line", sys.argv[1:])
    parser = get_args_parser()
    for action in parser._actions:
        if "--version" in action.option_strings:
            action.version = version_text()  # type: ignore[attr-defined]
    known = [name for action in parser._actions for name in action.option_strings]

    def refuse(message: str) -> NoReturn:
        unknown = message.rpartition(": ")[2].split(" ")[0]
        bare = unknown.lstrip("-")
        if re.match(r"[a-z_]+[.=]", bare):
            raise UsageError(f"{message}; {bare} is written without dashes")
        close = nearest(unknown, known)
        hint = close if close.startswith("did you mean") else "keys are written without dashes, such as seed=1"
        raise UsageError(f"{message}; {hint}")

    parser.error = refuse  # type: ignore[method-assign]
    arguments = parser.parse_intermixed_args(sys.argv[1:])
    given = ["--" + name.replace("_", "-") for name in _EXCLUSIVE if getattr(arguments, name) not in (None, False)]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} were given; give one of them at a time")
    if arguments.experimental_rerun:
        raise UsageError("--experimental-rerun is not taken: packnet-resume RUN_DIR goes on with a run")
    if arguments.config_dir and not Path(arguments.config_dir).is_dir():
        raise UsageError(f"--config-dir is {arguments.config_dir}: there is no such folder")
    check_overrides(arguments.overrides, sweep=bool(arguments.multirun))
    arguments.options = sys.argv[1:]
    for override in arguments.overrides:
        arguments.options.remove(override)
    if arguments.options[-1:] in (["--info"], ["-i"]):
        arguments.options.append(arguments.info)  # or the first of the overrides would be taken for what it shows
    named_here = "sequence=folders" in arguments.overrides or any(
        override.startswith(("sequence.add={", 'sequence.add="{', "sequence.add='{"))
        for override in arguments.overrides
    )
    arguments.overrides = [
        # Tasks of folders get their names on the command line, so there is no key yet that could be overridden; nor is
        # there one for what each phase may have of its own, and no sequence names.
        f"++{override}"
        if (named_here and override.startswith(("sequence.tasks.", "sequence.tasks="))) or _OF_PHASE.match(override)
        else override
        for override in arguments.overrides
    ]
    return arguments
