"""Caches the images that the embedded tasks draw, so that each is drawn once."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from packnet_pl.files import readable, replacing

__all__ = ["default_cache_dir", "drawn_splits"]

logger = logging.getLogger(__name__)


def drawn_splits(
    name: str,
    recipe: Sequence[Any],
    counts: Mapping[str, int],
    draw_split: Callable[[str, int], tuple[Tensor, Tensor]],
    cache_dir: str | None,
) -> list[tuple[Tensor, Tensor]]:
    """Returns images and labels of each split, from the cache file of this recipe if it can be read.

    Args:
        name: What the file's name begins with.
        recipe: All that the images depend on, as JSON takes it; each recipe has a file of its own.
        counts: Images per class of each split.
        draw_split: From a split's name and its images per class to uint8 images (N x H x W) and int64 labels (N).
        cache_dir: The folder; None is :func:`default_cache_dir`.

    Raises:
        ValueError: If a number is below 1.
    """
    for split, count in counts.items():
        if count < 1:
            raise ValueError(f"{split}_per_class is {count}; allowed is 1 or more")
    folder = Path(cache_dir) if cache_dir else default_cache_dir()
    path = folder / f"{name}-{hashlib.blake2b(json.dumps(recipe).encode(), digest_size=6).hexdigest()}.safetensors"
    tensors = _read(path) if path.exists() else None
    if tensors is None:
        logger.info("drawing the images of %s (kept in %s)", name, folder)
        tensors = {}
        for split, count in counts.items():
            tensors[f"{split}.images"], tensors[f"{split}.labels"] = draw_split(split, count)
        with replacing(path) as temporary:
            save_file(tensors, temporary)
    return [(tensors[f"{split}.images"], tensors[f"{split}.labels"]) for split in counts]


def default_cache_dir() -> Path:
    """Returns ``packnet_pl`` in the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``).

    A user without a home, as containers have, gets a folder of temporary files.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        return Path(given) / "packnet_pl"
    try:
        return Path.home() / ".cache" / "packnet_pl"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"packnet_pl-{os.getuid()}"


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        with readable(path) as name:
            return dict(load_file(name))
    except (SafetensorError, OSError) as error:
        logger.warning("drawing the images again: %s cannot be read (%s)", path, error)
        return None
