"""Images per second of ``sequence=folders`` with its cache, over a bare ``ImageFolder`` of torchvision."""

import tempfile
from pathlib import Path

import data_loading
from packnet_pl.data import image_folder
from speed_rows.clock import Report

__all__ = ["measure"]

IMAGES, ROUNDS = 192, 9


def measure(quick: bool, report: Report) -> dict[str, list[float]]:
    """Returns the row's ratios: epochs of both, batch by batch in turns, after one that fills the cache."""
    rounds, found = (1 if quick else ROUNDS), []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        report("writing images")
        data_loading.write(root, 32 if quick else IMAGES)
        mine = data_loading.ours(image_folder(root / "folder", cache_gb=1, cache_dir=str(root / "cache")))
        bare = data_loading.theirs(root / "imagenet" / "train", data_loading.CROP)
        for number in range(rounds + 1):
            report(f"round {number} of {rounds}")
            ours, theirs = data_loading.rates(mine, bare, number % 2)
            found.append(ours / theirs)
    return {"images": found[1:]}
