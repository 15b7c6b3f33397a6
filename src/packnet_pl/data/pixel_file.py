"""Keeps the pixels of many images in one file that several processes read and fill at once.

A header says what the images are, a table finds one by its key, and the pixels follow. A reader takes no lock and
believes nothing that has no right checksum: what is cut short, altered, or half written by a process that was killed is
an image that is not there. Writers take turns, and write a slot after its pixels.

No database does all of this. LMDB maps its file, so that a file cut short ends the process that reads it; SQLite takes
half as long again to read an image, must not be carried over a fork, and cannot begin a damaged file anew under its
other readers. The file is read, not mapped: the pixels are in the system's page cache alone, once for all processes.
"""

import fcntl
import os
import time
import weakref
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from packnet_pl.data.pixel_table import PixelTable, Slot, write_at
from packnet_pl.data.to_tensor import Pixels

__all__ = ["FullError", "PixelFile"]

_FORMAT, _FEWEST = 1, 5000
_RESERVE = 2**30  # bytes that are left free on the disk, for checkpoints
_TRIES, _PAUSE = 50, 0.002  # seconds


class FullError(Exception):
    """There is no room for another image; the message says why."""


class PixelFile:
    """The pixels of images, by key. The file is made with the first one.

    Attributes:
        path: Of the file.

    Args:
        path: See above.
        about: What the pixels depend on beside the image files, as JSON takes it. A file that says something else, or
            is damaged in its header, is begun anew by the first image that is added.
        channels: Of each image.
        count: Images that are expected. At least as many again find room in the table later.
        limit: Bytes that the file may have.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], *, channels: int, count: int, limit: int) -> None:
        self.path = path
        self._about, self._channels, self._limit = {"format": _FORMAT, **about}, channels, limit
        self._slots = max(count, _FEWEST)
        self._reading: tuple[int, PixelTable] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state without the open file: another process opens it itself."""
        return {**self.__dict__, "_reading": None}

    def get(self, key: bytes, stamp: bytes) -> Pixels | None:
        """Returns the pixels of an image; None if they are not there, or not whole.

        Args:
            key: Of the image: 16 bytes, evenly distributed.
            stamp: Of its version: 16 bytes.
        """
        try:
            self._reading = self._reading or self._open()
            if self._reading is None:
                return None
            file, table = self._reading
            slot = table.find(file, key)
            return None if slot is None or slot.stamp != stamp else self._pixels(file, slot)
        except OSError:
            return None  # who adds the image says it

    def put(self, key: bytes, stamp: bytes, pixels: Pixels) -> bool:
        """Adds an image, or replaces it; not if it is there by now, or others write all the time.

        Args:
            key: See :meth:`get`.
            stamp: See there.
            pixels: Of the image.

        Returns:
            Whether the file was damaged where the image should have been.

        Raises:
            FullError: If there is no room for it.
            OSError: If the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Opened anew: the lock belongs to this opening, so it also holds off threads and forked processes.
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            return _lock(file) and self._put(file, key, stamp, pixels)
        finally:
            os.close(file)

    def _put(self, file: int, key: bytes, stamp: bytes, pixels: Pixels) -> bool:
        table, damaged = self._table(file)
        slot, place = table.find(file, key), table.place(file, key)
        if place is None:
            raise FullError("it was made for fewer images; delete it to begin it anew")
        whole = slot is not None and self._pixels(file, slot) is not None
        if slot is not None and slot.stamp == stamp:
            if whole:
                return damaged  # another process was quicker
            damaged = True
        # Only where the former version is whole its room is surely nobody else's.
        if slot is not None and whole and slot.room >= pixels.nbytes:
            offset, room = slot.offset, slot.room
        else:
            offset, room = self._appended(file, pixels.nbytes), pixels.nbytes
        (height, width, _), end = pixels.shape, os.fstat(file).st_size
        try:
            write_at(file, pixels.data, offset)
            write_at(file, Slot(key, stamp, offset, room, height, width, zlib.crc32(pixels.data)).dump(), place)
        except OSError:
            os.ftruncate(file, end)
            raise
        return damaged

    def _open(self) -> tuple[int, PixelTable] | None:
        """Returns the file, open for reading, and its table; None if there is none, or of something else."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        found = PixelTable.read(file)
        if found is None or found[1] != self._about:
            os.close(file)
            return None
        weakref.finalize(self, os.close, file)
        return file, found[0]

    def _table(self, file: int) -> tuple[PixelTable, bool]:
        """Returns the table of a file, begun anew if it has to be, and whether it was damaged."""
        found = PixelTable.read(file)
        if found is not None and found[1] == self._about:
            return found[0], False
        damaged = found is None and os.fstat(file).st_size > 0
        return PixelTable.begin(file, self._about, self._slots), damaged

    def _pixels(self, file: int, slot: Slot) -> Pixels | None:
        size = slot.height * slot.width * self._channels
        found = os.pread(file, size, slot.offset) if size <= slot.room else b""
        if len(found) != size or zlib.crc32(found) != slot.checksum:
            return None
        return np.frombuffer(found, np.uint8).reshape(slot.height, slot.width, self._channels)

    def _appended(self, file: int, size: int) -> int:
        """Returns where ``size`` bytes can be added."""
        end = os.fstat(file).st_size
        if end + size > self._limit:
            raise FullError(f"it may have {self._limit / 1e9:g} GB")
        disk = os.fstatvfs(file)
        if disk.f_bavail * disk.f_frsize < size + _RESERVE:
            raise FullError(f"its disk has less than {_RESERVE / 1e9:.1f} GB left")
        return end


def _lock(file: int) -> bool:
    """Returns whether the lock could be had; nobody has it for long, but a process that was stopped in between."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        else:
            return True
    return False
