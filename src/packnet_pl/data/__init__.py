"""Task data sets, and the datamodule that serves one task."""

from packnet_pl.data.datamodule import SeededSampler, TaskDataModule
from packnet_pl.data.digits import digits
from packnet_pl.data.glyphs import glyphs
from packnet_pl.data.image_folder import image_folder
from packnet_pl.data.seeding import derive_seed
from packnet_pl.data.task_data import ImageDataset, TaskData

__all__ = [
    "ImageDataset",
    "SeededSampler",
    "TaskData",
    "TaskDataModule",
    "derive_seed",
    "digits",
    "glyphs",
    "image_folder",
]
