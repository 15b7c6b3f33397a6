"""Annotation files of published data sets: lines of text and MATLAB's .mat files, with faults named by line."""

import codecs
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from packnet_pl.data.published import Published
from packnet_pl.names import shown

__all__ = ["check_present", "read_lines", "read_mat"]


def read_lines(of: Published, path: Path, *kinds: Callable[[str], Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yields, for each line that is not empty, where it is (file and line, for messages) and its values.

    Args:
        of: The data set.
        path: The file.
        kinds: What makes a value of each word of a line: ``int``, ``float`` or ``str``; the last word may have spaces.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is of another form; the message names file and line.
    """
    if not path.is_file():
        raise of.missing(f"file {path}")
    form = " ".join("TEXT" if kind is str else "NUMBER" for kind in kinds)
    name, last = str(path), len(kinds) - 1
    # Names of files may be any bytes. Windows puts a byte-order mark in front.
    encoding, errors = _encoding(path)
    with path.open(encoding=encoding, errors=errors) as file:
        for number, line in enumerate(file, start=1):
            words = line.rstrip().split(maxsplit=last)
            if not words:
                continue
            where = f"{name}, line {number}"
            try:
                values = [kind(word) for kind, word in zip(kinds, words, strict=True)]
            except ValueError as error:
                raise ValueError(
                    f"{where} is '{shown(line.strip()[:80])}'; expected is {form!r}: it is damaged"
                ) from error
            yield where, values


def _encoding(path: Path) -> tuple[str, str]:
    with path.open("rb") as file:
        begin = file.read(2)
    if begin in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16", "replace"
    return "utf-8-sig", "surrogateescape"


def read_mat(of: Published, path: Path, *names: str) -> list[Any]:
    """Returns the named variables of a .mat file, as one-dimensional numpy arrays.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or lacks one of them.
    """
    import numpy as np
    from scipy.io import loadmat

    if not path.is_file():
        raise of.missing(f"file {path}")
    try:
        found = loadmat(path, squeeze_me=True)
    except Exception as error:  # scipy raises nearly any kind on a damaged file
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{path} cannot be read as a .mat file ({reason}); get it anew from {of.home}") from error
    for name in names:
        if name not in found:
            there = sorted(key for key in found if not key.startswith("__"))
            raise ValueError(f"{path} has no variable {name!r}, it has {there}; get it anew from {of.home}")
    return [np.atleast_1d(found[name]) for name in names]


def check_present(of: Published, paths: list[str], where: Callable[[int], str]) -> None:
    """Checks that all images are there: each folder is listed once, instead of a look-up per file.

    Args:
        of: The data set.
        paths: Of the images.
        where: Called with the index of one of them; returns which annotation names it.

    Raises:
        FileNotFoundError: If one is missing; the message names it and its annotation.
    """
    there: dict[str, set[str]] = {}
    for index, path in enumerate(paths):
        folder, _, name = path.rpartition("/")
        if folder not in there:
            there[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()  # noqa: PTH208, PTH112
        if name not in there[folder]:
            raise of.missing(f"image {path}, which is in {where(index)}")
