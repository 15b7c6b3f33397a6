"""Reports errors that the user can mend in one line, with exit code 2; a bug keeps its traceback."""

import errno
import io
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from packnet_pl.choices import nearest
from packnet_pl.names import shown

__all__ = ["STARTED_BY", "UsageError", "answering_errors", "is_mendable", "leave_on", "one_line", "this_program"]

_MENDABLE = {"CapacityError", "DamagedRunError", "ImageError"}
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_NO_FOLDER = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}  # a path that cannot be one
STARTED_BY = "PACKNET_PL_PROGRAM"
"""Environment variable in which a command that becomes another one leaves its name, for the errors to begin with."""


def this_program() -> str:
    """Returns the command whose errors these are: ``packnet-resume`` becomes ``packnet-train``."""
    return os.environ.get(STARTED_BY, "packnet-train")


class UsageError(ValueError):
    """An error that the user can mend: reported in one line, with exit code 2."""


@contextmanager
def answering_errors(program: str) -> Iterator[None]:
    """Ends the process with one line on stderr and code 2 where the user is at fault, and code 130 after Ctrl-C.

    Args:
        program: Name of the command, which begins the line.
    """  # noqa: DOC501
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal's encoding lacks, or that is no Unicode, is shown escaped.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except Exception as error:
        if _is_lost_peer(error):
            # That process says why; all that is known here is that its connection is gone.
            print(f"{program}: another process of this run has ended", file=sys.stderr)  # noqa: T201
            sys.exit(1)
        if not is_mendable(error):
            raise
        print(f"{program}: {one_line(error)}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as left:
        # Lightning leaves with code 1 and no word where a fit is interrupted.
        if isinstance(left, SystemExit) and not (left.code == 1 and isinstance(left.__context__, KeyboardInterrupt)):
            raise
        print(f"{program}: stopped by SIGINT", file=sys.stderr)  # noqa: T201
        sys.exit(128 + signal.SIGINT)


def leave_on(signum: int, frame: FrameType | None = None) -> NoReturn:
    """Handles a signal that comes before training begins: ends the process with one line and code 128 + ``signum``.

    Args:
        signum: The signal.
        frame: What it interrupted; not used.
    """
    line = f"{this_program()}: stopped by {signal.Signals(signum).name} before training began\n".encode()
    # The signal may have come in the middle of a print to sys.stderr, which cannot be entered again; and where nobody
    # reads the other end any more, nothing is worth waiting for.
    with suppress(OSError):
        if select.select([], [2], [], 1.0)[1]:
            os.write(2, line)
    os._exit(128 + signum)


def one_line(error: BaseException) -> str:
    """Returns the error's message, and that of its cause, as one line."""
    text = str(error)
    missing, options = getattr(error, "missing_cfg_file", None), getattr(error, "options", None)
    if _is_of_hydra(error, "MissingConfigException") and missing and options:
        return _missing_choice(text, missing, options)
    if "validated against ConfigStore schema" in text:
        name = text.split("'")[1]
        return f"{name}.yaml of your own has the name of a network that is known already: give it another name"
    if "Original Traceback" in text:
        # From a loader's process, which sends its traceback as the message; the last line is what it says.
        text = text.strip().splitlines()[-1].partition(": ")[2]
    parts = [" ".join(text.split())]
    cause = error.__cause__
    if cause is not None and (_is_of_hydra(error) or _is_of_disk(cause)):
        parts += [reason for reason in [" ".join(str(cause).split())] if reason not in parts[0]]
    return shown(": ".join(parts))


def _missing_choice(text: str, path: str, options: Sequence[str]) -> str:
    group, _, name = path.partition("/") if path.startswith("arch/") else path.rpartition("/")
    listed = nearest(name, options)
    if "did you mean" not in listed:
        listed = f"there are {', '.join(options)}{', and timm/NAME' if group == 'arch' else ''}"
    where = text.partition(": ")[0]
    where = "" if where == "In 'train'" or not where.startswith("In ") else f"{where}: "
    return f"{where}there is no {group}={name}; {listed}"


def _is_of_disk(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _DISK


def _is_lost_peer(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, RuntimeError) and ("closed by peer" in text or "reset by peer" in text)


def is_mendable(error: Exception) -> bool:
    """Returns whether the user can mend the error, so that one line says more than a traceback."""
    if _is_of_hydra(error, "InstantiationException"):
        return False  # what is the user's fault among them is a UsageError already
    if _is_of_hydra(error) or isinstance(error, (UsageError, FloatingPointError)):
        return True  # asked first: Hydra's error of a missing choice is an OSError too
    if isinstance(error, OSError):
        return error.errno in _DISK | _NO_FOLDER
    if error.__cause__ is not None and _is_of_disk(error.__cause__):
        return True  # what cannot go on without the file says so, such as the setup of logging
    # Named, not imported: reporting a misspelt option must not load torch.
    return any(kind.__name__ in _MENDABLE for kind in type(error).__mro__)


def _is_of_hydra(error: BaseException, *names: str) -> bool:
    """Returns whether the error is Hydra's or OmegaConf's; by name, as not every command imports them."""
    kinds = names or ("HydraException", "OmegaConfBaseException")
    return any(
        k.__name__ in kinds and k.__module__ in ("hydra.errors", "omegaconf.errors") for k in type(error).__mro__
    )
