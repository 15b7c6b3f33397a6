"""Data sets of tasks. No Lightning, and no torchvision but for the lists of Flowers-102."""

from packnet_pl.data.cars import read_cars
from packnet_pl.data.class_balance import class_labels, class_weights
from packnet_pl.data.class_folders import read_imagenet, read_places365, read_sketch, read_wikiart
from packnet_pl.data.cubs import read_cubs
from packnet_pl.data.digits import digits
from packnet_pl.data.flowers import read_flowers
from packnet_pl.data.glyphs import glyphs
from packnet_pl.data.image_folder import image_folder
from packnet_pl.data.joining import join_tasks
from packnet_pl.data.published import published_images
from packnet_pl.data.seeding import derive_seed
from packnet_pl.data.spectro import spectro
from packnet_pl.data.task_data import ImageDataset, TaskData

__all__ = [
    "ImageDataset",
    "TaskData",
    "class_labels",
    "class_weights",
    "derive_seed",
    "digits",
    "glyphs",
    "image_folder",
    "join_tasks",
    "published_images",
    "read_cars",
    "read_cubs",
    "read_flowers",
    "read_imagenet",
    "read_places365",
    "read_sketch",
    "read_wikiart",
    "spectro",
]
