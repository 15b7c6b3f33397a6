"""Folders of photographs, as a user has them."""

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

# All that draws random numbers or counts steps: random crops, flips and policies, mixed batches, a balanced sampler,
# dropout, batch-norm, a schedule of each step.
EVERYTHING = ("debug=tiny", "debug.fraction=1", "debug.max_epochs=2", "sequence=folders")
EVERYTHING += ("arch=vgg11_bn", "arch.width=0.1", "arch.image_size=32")
EVERYTHING += ("optim=adamw", "optim.batch_size=4", "optim.accumulate=2")
EVERYTHING += ("sequence.task.data.augment=flip_crop+trivial", "optim.mixup=0.4", "optim.cutmix=1.0")
EVERYTHING += ("optim.label_smoothing=0.1", "optim.balance=sampler", "which_task=features")


def everything_random(folder):
    """Writes two folders of photographs, and returns the words of a command line that trains on them."""
    photographs(folder / "cats", ["tabby", "tom"], count=20)
    photographs(folder / "cars", ["bus", "taxi", "van"], count=14, seed=1)
    return [*EVERYTHING, f"sequence.folders={{cats: '{folder / 'cats'}', cars: '{folder / 'cars'}'}}"]


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
