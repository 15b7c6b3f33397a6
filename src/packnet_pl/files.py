"""Replaces a file as a whole: a killed process leaves the old one or the new one, never half of one.

Paths may be any bytes; :func:`readable` and :func:`replacing_unicode` serve libraries that take nothing but Unicode.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from packnet_pl.names import is_unicode

__all__ = ["readable", "replacing", "replacing_unicode"]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; it replaces ``path`` at the end, or is removed on an exception.

    The data are on disk before the name changes (fsync, then ``os.replace`` within one folder).
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The process id keeps two processes that write the same file out of each other's temporary file; the ending stays,
    # because some writers choose the format by it.
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def readable(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yields a path at which a library reads the file, also one that refuses names beyond Unicode (safetensors)."""
    if is_unicode(os.fspath(path)):
        yield os.fspath(path)
        return
    with Path(path).open("rb") as file:
        yield f"/dev/fd/{file.fileno()}"


@contextmanager
def replacing_unicode(path: str | os.PathLike[str]) -> Iterator[Path]:
    """As :func:`replacing`, for libraries that take only Unicode names; one of torch's ends the process otherwise."""
    if is_unicode(os.fspath(path)):
        with replacing(path) as temporary:
            # Some writers have errors of their own for a folder that takes no files; these are the system's.
            temporary.touch()
            temporary.unlink()
            yield temporary
        return
    ending = Path(path).suffix
    with tempfile.TemporaryDirectory() as folder, replacing(path) as temporary:
        file = Path(folder) / f"file{ending if is_unicode(ending) else ''}"
        yield file
        shutil.copyfile(file, temporary)
