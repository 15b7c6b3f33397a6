"""Recognises names of image files, and of files that operating systems leave in folders."""

__all__ = ["EXTENSIONS", "is_clutter", "is_image_name"]

EXTENSIONS = ("jpg", "jpeg", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm")
"""Endings, in either case, of the files that are taken for images."""

_ENDINGS = tuple(f".{extension}" for extension in EXTENSIONS)
# What operating systems and file servers leave behind, beside files whose name begins with a dot.
_CLUTTER = frozenset(
    {"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "desktop.ini"}
)


def is_image_name(name: str) -> bool:
    """Returns whether ``name`` has the ending of an image file."""
    return name.lower().endswith(_ENDINGS)


def is_clutter(name: str) -> bool:
    """Returns whether a file or folder is hidden, or one that operating systems leave behind."""
    return name.startswith(".") or name in _CLUTTER
