"""Writes Greek letters as a folder of images in which half of the classes have an eighth of the training images."""

import sys
from pathlib import Path

from PIL import Image

from packnet_pl.data import class_labels, glyphs


def main(folder: Path) -> None:
    """Writes train/ (40 or 5 images of a letter), val/ and test/ (balanced) below ``folder``."""
    data = glyphs("greek", train_per_class=40)
    for split, images in data.splits.items():
        written = [0] * len(data.class_names)
        for index, label in enumerate(class_labels(images).tolist()):
            if split == "train" and label % 2 and written[label] == 5:
                continue
            pixels = (images[index][0][0] * data.std[0] + data.mean[0]) * 255
            path = folder / split / data.class_names[label] / f"{written[label]:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.round().byte().numpy()).save(path)
            written[label] += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
