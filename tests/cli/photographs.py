"""Folders of photographs, as a user has them."""

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def photographs(folder, classes, count=12, seed=0):
    """Writes crops of scikit-learn's two photographs, each class in a tint of its own."""
    rng = np.random.default_rng(seed)
    for split in ("train", "test"):
        for number, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                photo = load_sample_images().images[number % 2]
                row, column = rng.integers(0, 300, 2)
                crop = photo[row : row + 60, column : column + 80].astype(float)
                crop[..., number % 3] *= 0.4
                Image.fromarray(crop.astype(np.uint8)).save(folder / split / name / f"photo {index}.JPG")
