"""A disk that is full from the n-th write on: opening a file for writing, writing it, or bringing it to the disk."""

import errno
import os
import sys
from pathlib import Path


class FullDisk:
    """Call it in a new process; it does not affect the process that makes it.

    Args:
        at: Number of the write that fails first, counted from 0.
        below: Only what is written below this folder counts.
    """

    def __init__(self, at, below):
        self.at, self.below, self.count = at, str(below), 0

    def __call__(self):
        sys.addaudithook(self._opened)
        self._sync, os.fsync = os.fsync, self._synced
        self._bytes, Path.write_bytes = Path.write_bytes, lambda path, data: self._written(path, bytes(data))
        Path.write_text = lambda path, text, encoding=None: self._written(path, text.encode(encoding or "utf-8"))

    def _fail(self):
        self.count += 1
        if self.count > self.at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _opened(self, event, arguments):
        if event == "open" and isinstance(arguments[0], (str, os.PathLike)):
            path, mode, flags = arguments
            writes = any(letter in mode for letter in "wax+") if mode else flags & (os.O_WRONLY | os.O_RDWR)
            if writes and os.path.abspath(path).startswith(self.below):  # noqa: PTH100
                self._fail()

    def _synced(self, descriptor):
        self._fail()
        self._sync(descriptor)

    def _written(self, path, data):
        """Half of it fits."""
        if str(path.absolute()).startswith(self.below):
            self.count += 1
            if self.count > self.at:
                self.count = -(10**9)  # what is cut off can be written
                self._bytes(path, data[: len(data) // 2])
                self.count = 10**9
                self._fail()
        return self._bytes(path, data)
