"""JSON records on disk: written from a typed struct, and checked against it as they are read."""

import json
from pathlib import Path
from typing import TypeVar

import msgspec

from packnet_pl.files import replacing

__all__ = ["read_json", "write_json"]

_Record = TypeVar("_Record")


def write_json(path: Path, record: msgspec.Struct) -> None:
    """Replaces ``path`` as a whole.

    Raises:
        ValueError: If a number is NaN or infinite.
    """
    # msgspec's own encoder would write null for NaN.
    text = json.dumps(msgspec.to_builtins(record), indent=1, allow_nan=False, ensure_ascii=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, kind: type[_Record]) -> _Record:
    """Returns what :func:`write_json` wrote.

    Raises:
        ValueError: If it is damaged, or no record of this kind; says where in it, but not the path.
        OSError: If it cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except RecursionError as error:
        raise ValueError(str(error)) from error
