"""Reads images through a file of decoded and resized ones: each is decoded once, for all epochs, processes and runs."""

import hashlib
import json
import logging
import math
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL
from PIL import features

from packnet_pl.data.image_cache import default_cache_dir
from packnet_pl.data.image_files import Box, ReadPixels
from packnet_pl.data.pixel_file import FullError, PixelFile
from packnet_pl.data.to_tensor import Pixels
from packnet_pl.preparation import Preparation

__all__ = ["cached_pixels"]

_log = logging.getLogger(__name__)

# Of the code that makes pixels of a file: to be raised by whoever changes what they are.
_READER = 1
_DAMAGED, _STOPPED = 0, 1


def cached_pixels(
    read: ReadPixels, preparation: Preparation, paths: Sequence[str], cache_gb: float | None, cache_dir: str | None
) -> ReadPixels:
    """Returns ``read``, or what does the same through a cache.

    Args:
        read: Gives the same pixels each time, as long as a file is the same.
        preparation: What it does.
        paths: Of all images of the data set.
        cache_gb: GB (10^9 bytes) that the cache may have; None or 0: there is none.
        cache_dir: Its folder; None is :func:`packnet_pl.data.image_cache.default_cache_dir`.

    Raises:
        ValueError: If ``cache_gb`` is out of its range.
    """
    if not cache_gb:
        return read
    if type(cache_gb) not in (int, float) or not 0 < cache_gb < math.inf:
        raise ValueError(f"cache_gb is {cache_gb!r}; allowed is a number of GB above 0, or null for no cache")
    folder = os.path.commonpath([os.path.dirname(min(paths)), os.path.dirname(max(paths))])  # noqa: PTH120
    # The middle is cut out later.
    steps = {**preparation.dump(), "size": preparation.size if preparation.shorter_side is None else None}
    name = _digest(6, folder, json.dumps(steps)).hex()
    about = {
        "folder": ascii(folder)[-500:],
        "steps": json.dumps(steps),
        "reader": _READER,
        "pillow": PIL.__version__,
        "decoders": {name: features.version(name) for name in ("libjpeg_turbo", "jpg", "webp", "libtiff")},
    }
    file = PixelFile(
        (Path(cache_dir) if cache_dir else default_cache_dir()) / f"images-{name}.pixels",
        about,
        channels=len(preparation.colour),
        count=len(paths),
        limit=int(cache_gb * 1e9),
    )
    return _CachedPixels(read, file, json.dumps(about))


class _CachedPixels:
    """Reads an image from the cache, or decodes it and puts it there.

    Args:
        read: Decodes.
        file: The cache.
        about: All that the pixels depend on beside the image files.
    """

    def __init__(self, read: ReadPixels, file: PixelFile, about: str) -> None:
        self._read, self._file, self._about = read, file, about
        # In memory that a loader's forked workers share: what one of them has said, no other one says again.
        self._said = mmap.mmap(-1, 2)

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state without the shared memory, for a process that is not forked."""
        return {name: value for name, value in self.__dict__.items() if name != "_said"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _said=mmap.mmap(-1, 2))

    def __call__(self, path: str, box: Box | None = None) -> Pixels:
        key, stamp = _digest(16, self._about, path, repr(box)), _stamp(path)
        found = None if stamp is None else self._file.get(key, stamp)
        if found is not None:
            return found
        pixels = self._read(path, box)
        # Of a file that is replaced just now it may be either version; this stamp is then nobody's any more.
        if stamp is not None and not self._said[_STOPPED]:
            self._add(key, stamp, pixels)
        return pixels

    def _add(self, key: bytes, stamp: bytes, pixels: Pixels) -> None:
        try:
            if self._file.put(key, stamp, pixels):
                self._say(_DAMAGED, "the cache %s was damaged; images are decoded again", self._file.path)
        except FullError as error:
            self._say(_STOPPED, "the cache %s is full (%s): further images are decoded", self._file.path, error)
        except OSError as error:
            self._say(_STOPPED, "the cache %s takes no images (%s): they are decoded", self._file.path, error)

    def _say(self, what: int, message: str, *values: object) -> None:
        if not self._said[what]:
            self._said[what] = 1
            _log.warning(message, *values)


def _stamp(path: str) -> bytes | None:
    """Returns what changes whenever a file does; None of a file that cannot be asked."""
    try:
        found = os.stat(path)  # noqa: PTH116 (twice as fast)
    except OSError:
        return None
    # The last is set by the system alone: also where a program gives a file the time of another one.
    return _digest(16, f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}")


def _digest(size: int, *parts: str) -> bytes:
    return hashlib.blake2b("\0".join(parts).encode(errors="surrogateescape"), digest_size=size).digest()
