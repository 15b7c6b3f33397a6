"""Shows values from files and libraries in messages: on one line, and cut to length."""

import reprlib
from typing import Any

from packnet_pl.names import shown

__all__ = ["as_line", "brief", "check_text", "named"]

_LONGEST_NAME = 60
_LONGEST_LINE = 160

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = 40
_brief.maxlevel, _brief.maxlist, _brief.maxtuple, _brief.maxdict = 2, 4, 4, 2


def check_text(what: str, value: Any, most: int) -> str:
    """Returns ``value``.

    Args:
        what: What it is, for the message.
        value: Anything.
        most: Characters that are allowed.

    Raises:
        ValueError: If it is no string, blank, longer, or cannot be shown on one line as it is.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > most or shown(value) != value:
        raise ValueError(f"{what} is {brief(value)}; allowed are 1 to {most} characters, none of them a control one")
    return value


def brief(value: Any) -> str:
    """Returns ``repr(value)``, cut to a message's length; cheap however large the value is."""
    return shown(_brief.repr(value))


def named(name: str) -> str:
    """Returns a name for a message: as it is, unless it is long or cannot be shown."""
    return shown(name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}...")


def as_line(reason: object, most: int = _LONGEST_LINE) -> str:
    """Returns a text from a file or library as one line of at most ``most`` characters."""
    # What is far behind the limit need not be looked at.
    line = shown(" ".join(str(reason)[: 8 * most].split()))
    return line if len(line) <= most else f"{line[: most - 3]}..."
