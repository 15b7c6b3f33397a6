"""Parses command lines with options: mistakes raise a UsageError, and no argument is passed over."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from packnet_pl.errors import UsageError

__all__ = ["CommandParser", "check_alone", "version_text"]

_ALONE = ("-h", "--help", "--version")


class CommandParser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that raises its errors and knows ``--version``.

    Args:
        prog: Name of the command.
        description: What it does.
    """

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description)
        self.add_argument("--version", action=_ShowVersion, nargs=0, help="show program's version number and exit")

    def parse(self) -> Any:
        """Returns the options and arguments of ``sys.argv``.

        Raises:
            UsageError: If one is unknown or missing, or would be passed over.
        """
        check_alone(sys.argv[1:])
        return self.parse_args()

    def error(self, message: str) -> NoReturn:
        """Raises argparse's message as a UsageError."""
        raise UsageError(f"{message}; {self.prog} --help shows what is taken")


class _ShowVersion(argparse.Action):
    """Prints the version, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(version_text())  # noqa: T201
        parser.exit()


def check_alone(arguments: Sequence[str]) -> None:
    """Refuses other arguments beside one that asks for help or the version.

    Raises:
        UsageError: If there are any: they would be passed over.
    """
    asked = next((argument for argument in arguments if argument in _ALONE), None)
    others = [argument for argument in arguments if argument != asked]
    if asked is not None and others:
        raise UsageError(f"{asked} was given with {shlex.join(others)}; give it alone")


def version_text() -> str:
    """Returns the line that ``--version`` prints."""
    from importlib.metadata import version  # a third of what starting such a command takes

    return f"packnet_pl {version('packnet-pl')}"
