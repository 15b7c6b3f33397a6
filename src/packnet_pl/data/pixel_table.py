"""The table of a file of pixels: a header and slots, each with a checksum, so that neither is believed unchecked."""

import json
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["PixelTable", "Slot", "write_at"]

_HEADER = 8192  # bytes: a checksum, and JSON padded with zeros
_CHECKSUM = struct.Struct("<I")
_SLOT = struct.Struct("<16s16sQ4I")  # a Slot; a checksum of these bytes follows
_SIZE = 64  # bytes of a slot
_WINDOW = 64  # slots, from the one that its key names, in which an image may be


class Slot(NamedTuple):
    """Where an image is.

    Attributes:
        key: Of the image: 16 bytes, evenly distributed.
        stamp: Of the version of its file: 16 bytes.
        offset: Of its pixels, in bytes from the beginning of the file.
        room: Bytes that are its own there.
        height: In pixels.
        width: In pixels.
        checksum: CRC-32 of the pixels.
    """

    key: bytes
    stamp: bytes
    offset: int
    room: int
    height: int
    width: int
    checksum: int

    def dump(self) -> bytes:
        """Returns the slot as bytes."""
        fields = _SLOT.pack(*self)
        return (fields + _CHECKSUM.pack(zlib.crc32(fields))).ljust(_SIZE, b"\0")

    @classmethod
    def parse(cls, dumped: bytes) -> "Slot | None":
        """Returns the slot of bytes that :meth:`dump` made; None of all others."""
        fields, checksum = dumped[: _SLOT.size], dumped[_SLOT.size : _SLOT.size + _CHECKSUM.size]
        return cls(*_SLOT.unpack(fields)) if checksum == _CHECKSUM.pack(zlib.crc32(fields)) else None


@dataclass(frozen=True)
class PixelTable:
    """The table of a file that is given as an open descriptor.

    Attributes:
        slots: How many images it is made for; with as many it is half empty.
    """

    slots: int

    @classmethod
    def begin(cls, file: int, about: Mapping[str, Any], slots: int) -> "PixelTable":
        """Empties the file, and writes a table without images.

        Args:
            file: Open for writing.
            about: What the images are, as JSON takes it, in 8,000 characters.
            slots: See above.
        """
        table = cls(slots)
        text = json.dumps({**about, "slots": slots}).encode().ljust(_HEADER - _CHECKSUM.size, b"\0")
        os.ftruncate(file, 0)
        os.ftruncate(file, table.end)
        write_at(file, _CHECKSUM.pack(zlib.crc32(text)) + text, 0)
        return table

    @classmethod
    def read(cls, file: int) -> tuple["PixelTable", dict[str, Any]] | None:
        """Returns the table, and what it is about; None if it is damaged."""
        found = os.pread(file, _HEADER, 0)
        text = found[_CHECKSUM.size :]
        if len(found) < _HEADER or found[: _CHECKSUM.size] != _CHECKSUM.pack(zlib.crc32(text)):
            return None
        about: dict[str, Any] = json.loads(text.rstrip(b"\0"))
        table = cls(about.pop("slots"))
        return (table, about) if os.fstat(file).st_size >= table.end else None

    @property
    def end(self) -> int:
        """Bytes of header and table."""
        return self._position(2 * self.slots + _WINDOW)

    def find(self, file: int, key: bytes) -> Slot | None:
        """Returns the slot of an image; None if it has none."""
        window, _ = self._window(file, key)
        at = _index(window, key)
        return None if at is None else Slot.parse(window[at : at + _SIZE])

    def place(self, file: int, key: bytes) -> int | None:
        """Returns the offset in the file of an image's slot, or of a free one; None if there is no free one."""
        window, begin = self._window(file, key)
        at = _index(window, key)
        if at is None:
            starts = range(0, len(window), _SIZE)
            at = next((start for start in starts if Slot.parse(window[start : start + _SIZE]) is None), None)
        return None if at is None else begin + at

    def _window(self, file: int, key: bytes) -> tuple[bytes, int]:
        begin = self._position(int.from_bytes(key[:8], "little") % (2 * self.slots))
        return os.pread(file, _WINDOW * _SIZE, begin), begin

    @staticmethod
    def _position(slot: int) -> int:
        return _HEADER + slot * _SIZE


def write_at(file: int, data: Any, offset: int) -> None:
    """Writes all of a buffer to an open file, which may take several calls.

    Args:
        file: A descriptor.
        data: Anything with bytes that lie one after the other.
        offset: Where in the file.
    """
    left = memoryview(data).cast("B")
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written


def _index(window: bytes, key: bytes) -> int | None:
    at = window.find(key)
    return None if at < 0 or at % _SIZE else at
