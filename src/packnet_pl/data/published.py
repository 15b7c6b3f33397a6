"""Published data sets: what a reader finds on disk, checked against the published counts, as a task."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packnet_pl.counting import counted
from packnet_pl.data.cached_pixels import cached_pixels
from packnet_pl.data.class_listing import holds_something
from packnet_pl.data.image_files import ImageFiles, check_image, check_sizes
from packnet_pl.data.image_list import ImageList, cut_validation
from packnet_pl.data.processing import augmentation, processing
from packnet_pl.data.task_data import TaskData
from packnet_pl.preparation import Interpolation

__all__ = ["Listing", "Published", "published_images"]


@dataclass(frozen=True)
class Published:
    """A data set with its published counts.

    Attributes:
        name: Of the data set.
        home: Where it comes from: a web page.
        layout: The files that are expected in its folder.
        classes: Number of classes; None if it is not to be checked, as the next two.
        train: Number of training images.
        test: Number of test images.
    """

    name: str
    home: str
    layout: str
    classes: int | None = None
    train: int | None = None
    test: int | None = None

    def missing(self, what: str) -> FileNotFoundError:
        """Returns the error for data that are not there.

        Args:
            what: Which file or folder is not there.
        """
        return FileNotFoundError(
            f"there is no {what}; {self.name} is expected as {self.layout}; home page: {self.home}"
        )

    def folder(self, path: str | os.PathLike[str], *below: str) -> Path:
        """Returns the folder ``path``, or one of its sub-folders ``below`` that is not empty: archives bring one.

        Also one in a folder of the same name, as archives that are unpacked into a folder of their own leave it.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If ``path`` is empty.
        """
        if not path:
            raise ValueError(f"path is {path!r}; name the folder of {self.name}: {self.layout}")
        # Not Path.expanduser: it raises a RuntimeError for an unknown user.
        root = Path(os.path.expanduser(path)).absolute()  # noqa: PTH111
        if not root.is_dir():
            raise self.missing(f"folder {root}")
        deeper = next((root / name for name in below if holds_something(root / name)), None)
        return root if deeper is None else self.folder(deeper, *below)


@dataclass(frozen=True)
class Listing:
    """Images and classes that a reader finds on disk, without opening an image.

    Attributes:
        of: Which data set it is.
        root: Its folder.
        train: To train on; validation is cut from it.
        test: For the figures that are reported.
        class_names: One per class index.
    """

    of: Published
    root: Path
    train: ImageList
    test: ImageList
    class_names: tuple[str, ...]


def published_images(  # noqa: PLR0913 - a yaml names each of them
    read: Callable[[str | os.PathLike[str]], Listing],
    path: str | os.PathLike[str],
    *,
    subset: bool = False,
    image_size: int | None = None,
    resize: float | None = None,
    squash: bool | None = None,
    interpolation: Interpolation | None = None,
    channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: str | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    cache_gb: float | None = None,
    cache_dir: str | None = None,
) -> TaskData:
    """Returns a published data set as the data of a task.

    Images are read when they are asked for. Where the data set has boxes, what they hold is cut out and resized to a
    square. Otherwise the shorter side is resized, and a square is cut: the middle, or in training a random one.

    Args:
        read: Finds the images below ``path``: :func:`packnet_pl.data.read_cubs` and its like.
        path: The folder; ``~`` is the home folder.
        subset: Whether a part of the data set will do. Otherwise its counts must be the published ones.
        image_size: As for :func:`packnet_pl.data.image_folder`, like the next six.
        resize: Not used, and refused, where there are boxes.
        squash: Not used where there are boxes, as these images are squashed.
        interpolation: See there.
        channels: See there.
        mean: See there.
        std: See there.
        augment: See there; where there are boxes nothing is cropped: "flip" or "none", perhaps with a policy. None is
            "flip_crop", or "flip".
        val_fraction: Share of each class's training images to validate on instead, in [0, 1), at least one image
            and never all. 0 trains on all of them, as the paper does: validation is then a tenth of what was trained
            on, which tells a fault from a run that learns, but is no ground for a choice.
        seed: Decides which images these are; it is not the run's.
        cache_gb: As for :func:`packnet_pl.data.image_folder`.
        cache_dir: See there.

    Raises:
        FileNotFoundError: If a folder or file is missing.
        ValueError: If an argument is out of its range, a file is damaged, or counts are not the published ones.
    """
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}; allowed is a number in [0, 1), 0 to train on all images")
    how = processing(
        image_size=image_size,
        resize=resize,
        squash=squash,
        interpolation=interpolation,
        channels=channels,
        mean=mean,
        std=std,
        augment=augment or "flip_crop",
    )
    listing = read(path)
    boxed = listing.train.boxes is not None
    whole = augmentation(augment or "flip", "flip")
    if boxed and (resize is not None or "crop" in whole):
        raise ValueError(
            f"resize is {resize} and augment {augment!r}: the images of {listing.of.name} are cut out by their boxes "
            "and resized to a square; allowed are resize=None, and augment 'flip' or 'none', perhaps with a policy: "
            "'flip+trivial'"
        )
    if boxed:
        squashed = replace(how.preparation, shorter_side=None, boxes=True)
        how = replace(how, preparation=squashed, augment=whole)
    _check(listing, subset)
    names, needed = listing.class_names, "at least two are needed, one of them to validate on"
    train, val = cut_validation(listing.train, val_fraction, seed, names, range(len(names)), needed)

    paths = [*listing.train.paths, *listing.test.paths]
    read_pixels = cached_pixels(how.pixels, how.preparation, paths, cache_gb, cache_dir)

    def images(found: ImageList, *, training: bool = False) -> ImageFiles:
        return how.images(found.paths, found.labels, boxes=found.boxes, training=training, read=read_pixels)

    return TaskData(
        images(train, training=True),
        images(val),
        images(listing.test),
        listing.class_names,
        how.preparation.input_shape,
        how.mean,
        how.std,
        how.preparation,
    )


def _check(listing: Listing, subset: bool) -> None:
    of, splits = listing.of, {"training": listing.train, "test": listing.test}
    for what, found, published in (
        ("classes", len(listing.class_names), of.classes),
        ("training images", len(listing.train.paths), of.train),
        ("test images", len(listing.test.paths), of.test),
    ):
        if subset or published is None or found == published:
            continue
        if found > published:
            raise ValueError(
                f"{of.name} has {published:,} {what}, and {listing.root} has {found:,}, {found - published:,} too "
                f"many: take out what does not belong to it, or unpack it anew ({of.home}); subset=true takes it as it "
                "is"
            )
        raise ValueError(
            f"{of.name} has {published:,} {what}, and {listing.root} has {found:,}: complete it ({of.home}), or "
            "say subset=true if a part of it is what you want"
        )
    if len(listing.class_names) < 2:
        raise ValueError(f"{listing.root} has {counted(len(listing.class_names), 'class')}; at least two are needed")
    seen: set[str] = set()
    for name, split in splits.items():
        if not split.paths:
            raise ValueError(f"{listing.root} has no {name} image; {of.name} is expected as {of.layout}")
        if len(seen | {*split.paths}) != len(seen) + len(split.paths):
            twice = next(path for path in split.paths if path in seen or split.paths.count(path) > 1)
            raise ValueError(f"{twice} is listed twice; an image can be in one split only, once")
        seen.update(split.paths)
        check_image(split.paths[0])
    check_sizes([*listing.train.paths, *listing.test.paths])
