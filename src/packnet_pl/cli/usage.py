"""What the user can mend."""

import difflib
from collections.abc import Iterable

__all__ = ["STARTED_BY", "UsageError", "nearest"]

STARTED_BY = "PACKNET_PL_PROGRAM"
"""Environment variable in which a command that becomes another one leaves its name, for the errors to begin with."""


class UsageError(ValueError):
    """The user can mend it: answered by one line and exit code 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns words that name the known names closest to ``name``, or all of them if none is close."""
    names = sorted(map(str, known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are {', '.join(names)}" if len(names) <= 12 else "packnet-train --cfg job shows all there are"
