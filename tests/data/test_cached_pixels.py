"""Images that come from the cache are, to the bit, those that are decoded; whatever happens to the file."""

import errno
import os
import pickle
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from packnet_pl.data import cached_pixels as cached_module
from packnet_pl.data import image_folder, pixel_file, processing, published_images, read_cubs
from packnet_pl.data.cached_pixels import cached_pixels
from packnet_pl.data.pixel_file import PixelFile
from packnet_pl.data.processing import processing as how_to
from packnet_pl.training import TaskDataModule
from tests.support.published import cubs

GB = 0.01


def noise(path, number=0, size=(40, 31), mode="RGB", **kwargs):
    """Writes an image in which no two rows are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode).save(path, **kwargs)
    return str(path)


@pytest.fixture
def photos(tmp_path):
    """Two classes of images of several sizes."""
    for number in range(16):
        split, name = ("train", "test")[number % 4 == 3], "ab"[number % 8 < 4]
        noise(tmp_path / "photos" / split / name / f"{number}.png", number, size=(30 + number, 45 - number))
    return tmp_path / "photos"


def data_of(photos, cache=None, cache_gb=GB, **kwargs):
    cached = {} if cache is None else {"cache_gb": cache_gb, "cache_dir": str(cache)}
    return image_folder(photos, **{"image_size": 16, **cached, **kwargs})


def items(data):
    """All items of all splits, training with the random numbers of the item."""
    found = []
    for split in data.splits.values():
        for index in range(len(split)):
            torch.manual_seed(index)
            found.append(split[index][0])
    return found


def same(left, right):
    return len(left) == len(right) and all(map(torch.equal, left, right))


def cache_file(cache):
    (path,) = Path(cache).glob("images-*.pixels")
    return path


@pytest.fixture
def decoded(monkeypatch):
    """The paths that are decoded from now on."""
    found, read = [], processing.open_image
    monkeypatch.setattr(processing, "open_image", lambda path, *rest: found.append(path) or read(path, *rest))
    return found


# --- the same pixels ---------------------------------------------------------------------------------------------

FORMATS = [("png", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
FORMATS += [("jpg", mode) for mode in ("L", "RGB", "CMYK")] + [("tif", "CMYK"), ("bmp", "RGB"), ("webp", "RGB")]


@settings(max_examples=50)
@given(
    st.sampled_from(FORMATS),
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.integers(0, 8),
    st.sampled_from([1, 3]),
    st.tuples(st.integers(1, 40), st.integers(0, 20)),
    st.booleans(),
    st.sampled_from(["bilinear", "bicubic"]),
    st.none() | st.tuples(*[st.integers(-5, 40)] * 2, *[st.integers(50, 400)] * 2),
)
def test_pixels_are_those_of_the_file_to_the_bit(kind, size, turned, channels, sides, squash, kernel, box):
    (ending, mode), (side, more) = kind, sides
    if box is not None and (box[0] >= size[0] or box[1] >= size[1]):
        box = None
    how = how_to(channels=channels, image_size=side, resize=side + more, squash=squash, interpolation=kernel)
    with tempfile.TemporaryDirectory() as folder:
        exif = Image.Exif()
        exif[0x0112] = turned
        path = noise(Path(folder) / f"a.{ending}", size=size, mode=mode, **({} if ending == "bmp" else {"exif": exif}))
        calls = []

        def read(path, box):
            calls.append(path)
            return how.pixels(path, box)

        cached = cached_pixels(read, how.preparation, [path], GB, f"{folder}/cache")
        expected = how.pixels(path, box)
        for _ in range(3):
            found = cached(path, box)
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert np.array_equal(found, expected)
        assert len(calls) == 1


@pytest.mark.parametrize("augment", ["flip_crop", "crop", "flip", "none", "trivial", "crop+augmix"])
def test_each_image_is_decoded_once_for_all_splits_epochs_and_runs(photos, tmp_path, decoded, augment):
    plain = items(data_of(photos, augment=augment))
    decoded.clear()
    for _ in range(2):
        data = data_of(photos, tmp_path / "cache", augment=augment)
        for _ in range(2):
            assert same(items(data), plain)
    assert sorted(decoded) == sorted(str(path) for path in photos.rglob("*.png"))


def test_boxes_are_cut_out_as_without_it(tmp_path, decoded):
    cubs(tmp_path / "cubs")
    read = {"subset": True, "image_size": 16, "val_fraction": 0}
    plain = items(published_images(read_cubs, tmp_path / "cubs", **read))
    decoded.clear()
    data = published_images(read_cubs, tmp_path / "cubs", **read, cache_gb=GB, cache_dir=str(tmp_path / "cache"))
    for _ in range(2):
        assert same(items(data), plain)
    assert len(decoded) == len(set(decoded)) == 10


def test_preparations_do_not_meet(photos, tmp_path):
    kinds = [{}, {"resize": 20}, {"squash": True}, {"interpolation": "bicubic"}, {"channels": 1}, {"image_size": 12}]
    for _ in range(2):
        for kind in kinds:
            assert same(items(data_of(photos, tmp_path / "cache", **kind)), items(data_of(photos, **kind)))
    assert len(list((tmp_path / "cache").iterdir())) == 6
    # What comes after the resizing is not in it.
    for kind in ({"mean": [0, 0, 0]}, {"augment": "flip"}, {"seed": 1}, {"image_size": 10, "resize": 18}):
        assert same(items(data_of(photos, tmp_path / "cache", **kind)), items(data_of(photos, **kind)))
    assert len(list((tmp_path / "cache").iterdir())) == 6


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_an_epoch_are_the_same(photos, tmp_path, decoded, num_workers):
    def epoch(data, number, num_workers=num_workers):
        module = TaskDataModule(data, key=(0, "a", "train"), batch_size=4, num_workers=num_workers)
        current = SimpleNamespace(processed=number)
        progress = SimpleNamespace(epoch_progress=SimpleNamespace(current=current))
        module.trainer = SimpleNamespace(global_rank=0, world_size=1, fit_loop=progress)
        return [batch[0] for batch in [*module.train_dataloader(), *module.batches("test")]]

    plain, cached = data_of(photos), data_of(photos, tmp_path / "cache")
    for number in range(2):
        assert same(epoch(cached, number), epoch(plain, number, 0))
    # Workers decode in processes of their own; what they left is all there.
    decoded.clear()
    assert not same(epoch(cached, 2, 0), epoch(cached, 3, 0))
    assert decoded == []


def test_another_process_that_is_not_forked_has_it_too(photos, tmp_path, decoded):
    data = data_of(photos, tmp_path / "cache")
    expected = items(data)
    decoded.clear()
    assert same(items(pickle.loads(pickle.dumps(data))), expected)
    assert decoded == []


# --- files that change -------------------------------------------------------------------------------------------


def test_an_image_that_was_replaced_is_noticed_even_with_its_size_and_time(photos, tmp_path):
    path = Path(noise(photos / "test" / "a" / "new.bmp"))
    data = data_of(photos, tmp_path / "cache")
    before = items(data)
    taken, length = path.stat(), cache_file(tmp_path / "cache").stat().st_size
    noise(path, number=1)
    os.utime(path, ns=(taken.st_atime_ns, taken.st_mtime_ns))
    assert path.stat().st_size == taken.st_size
    for _ in range(2):
        assert same(items(data), items(data_of(photos)))
    assert not same(items(data), before)
    # The new one has the room of the old one, and a larger one has not.
    assert cache_file(tmp_path / "cache").stat().st_size == length
    noise(path, number=2, size=(100, 31))
    for _ in range(2):
        assert same(items(data), items(data_of(photos)))
    assert length < cache_file(tmp_path / "cache").stat().st_size < length + 16_000


def test_an_image_that_is_gone_or_damaged_is_said_as_without_it(photos, tmp_path):
    data = data_of(photos, tmp_path / "cache")
    items(data)
    gone, cut = map(Path, data.test.paths[:2])
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:60])
    for index, path in enumerate((gone, cut)):
        with pytest.raises(ValueError, match=f"cannot be read as an image: {path}"):
            data.test[index]


@pytest.mark.parametrize("before", [True, False])
def test_an_image_that_is_replaced_while_it_is_read_is_noticed(tmp_path, before):
    path = noise(tmp_path / "a.bmp")
    how = how_to(image_size=16)

    def read(path, box):
        if before:
            noise(Path(path), number=1)
        pixels = how.pixels(path, box)
        noise(Path(path), number=2)
        return pixels

    cached_pixels(read, how.preparation, [path], GB, str(tmp_path / "cache"))(path, None)
    again = cached_pixels(how.pixels, how.preparation, [path], GB, str(tmp_path / "cache"))
    for _ in range(2):
        assert np.array_equal(again(path, None), how.pixels(path))


def test_other_decoders_begin_it_anew(photos, tmp_path, decoded, monkeypatch, caplog):
    items(data_of(photos, tmp_path / "cache"))
    length = cache_file(tmp_path / "cache").stat().st_size
    decoded.clear()
    monkeypatch.setattr(cached_module.PIL, "__version__", "0.0")
    items(data_of(photos, tmp_path / "cache"))
    assert len(decoded) == 16
    assert cache_file(tmp_path / "cache").stat().st_size == length
    assert caplog.text == ""


# --- a damaged file ----------------------------------------------------------------------------------------------

TABLE = 8192 + 64 * (2 * 5000 + 64)


INVERTED = bytes(range(255, -1, -1))


def cut(length):
    return lambda whole: whole[:length]


def overwritten(begin, end):
    return lambda whole: whole[:begin] + whole[begin:end].translate(INVERTED) + whole[end:]


DAMAGES = {
    "empty": cut(0),
    "cut in the header": cut(100),
    "cut in the table": cut(20_000),
    "cut behind the table": cut(TABLE),
    "cut in an image": cut(TABLE + 5000),
    "all": overwritten(0, 10**7),
    "header": overwritten(50, 51),
    "table": overwritten(8192, TABLE),
    "image": overwritten(TABLE + 700, TABLE + 701),
    "images": overwritten(TABLE, 10**7),
    "text": lambda _: b"This is something else.\n" * 1000,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("is_open", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_a_damaged_cache_loses_nothing(photos, tmp_path, decoded, caplog, damage, is_open):
    plain, data = items(data_of(photos)), data_of(photos, tmp_path / "cache")
    items(data)
    path = cache_file(tmp_path / "cache")
    whole = path.read_bytes()
    with path.open("r+b") as file:  # in place, under those who have it open
        file.truncate(0)
        file.write(damage(whole))
    data = data if is_open else data_of(photos, tmp_path / "cache")
    assert same(items(data), plain)
    assert len(caplog.messages) <= 1
    assert all("was damaged; images are decoded again" in line and str(path) in line for line in caplog.messages)
    # All is in it again; a header is noticed by those who come later.
    items(data_of(photos, tmp_path / "cache"))
    decoded.clear()
    assert same(items(data_of(photos, tmp_path / "cache")), plain)
    assert decoded == []


def test_damage_is_said_once(photos, tmp_path, caplog):
    items(data_of(photos, tmp_path / "cache"))
    path = cache_file(tmp_path / "cache")
    path.write_bytes(overwritten(TABLE, 10**7)(path.read_bytes()))
    items(data_of(photos, tmp_path / "cache"))
    assert caplog.messages == [f"the cache {path} was damaged; images are decoded again"]


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 10**4), st.integers(1, 255)), min_size=1, max_size=4))
def test_any_byte_may_be_wrong(changes):
    how = how_to(image_size=8, resize=8)
    with tempfile.TemporaryDirectory() as folder:
        paths = [noise(Path(folder) / f"{number}.png", number, size=(9, 9)) for number in range(3)]

        def cached():
            return cached_pixels(how.pixels, how.preparation, paths, GB, f"{folder}/cache")

        for path in paths:
            cached()(path, None)
        file = cache_file(f"{folder}/cache")
        whole = bytearray(file.read_bytes())
        used = np.flatnonzero(np.frombuffer(whole, np.uint8))
        for at, change in changes:
            whole[used[at % len(used)]] ^= change
        file.write_bytes(whole)
        for _ in range(2):
            for path in paths:
                assert np.array_equal(cached()(path, None), how.pixels(path))


def test_room_that_was_cut_off_and_given_to_another_image_stays_its_own(tmp_path):
    file = PixelFile(tmp_path / "f.pixels", {}, channels=1, count=3, limit=10**7)
    images = {name * 16: np.full((5, 4, 1), number, np.uint8) for number, name in enumerate((b"a", b"b", b"c"))}
    (first, second, third), stamp = images, bytes(16)
    for key in (first, second):
        assert not file.put(key, stamp, images[key])
    os.truncate(file.path, file.path.stat().st_size - 20)
    file.put(third, stamp, images[third])
    assert file.get(second, stamp) is None
    assert not file.put(second, b"a later version ", images[second])
    for key, version in ((first, stamp), (second, b"a later version "), (third, stamp)):
        assert np.array_equal(file.get(key, version), images[key])


# --- room --------------------------------------------------------------------------------------------------------


def test_it_is_as_large_as_it_may_be_and_the_rest_is_decoded(photos, tmp_path, decoded, caplog):
    plain = items(data_of(photos))
    items(data_of(photos, tmp_path / "whole"))
    room = cache_file(tmp_path / "whole").stat().st_size - 5000
    data = data_of(photos, tmp_path / "cache", cache_gb=room / 1e9)
    for _ in range(2):
        decoded.clear()
        assert same(items(data), plain)
    path = cache_file(tmp_path / "cache")
    assert 0 < len(decoded) < 10
    assert room - 5000 < path.stat().st_size <= room
    assert caplog.messages == [f"the cache {path} is full (it may have {room / 1e9:g} GB): further images are decoded"]
    # With more room they are added.
    items(data_of(photos, tmp_path / "cache"))
    decoded.clear()
    assert same(items(data_of(photos, tmp_path / "cache")), plain)
    assert decoded == []


def test_the_last_gigabyte_of_a_disk_is_left_for_checkpoints(photos, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(pixel_file.os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=2**18, f_frsize=4096))
    assert same(items(data_of(photos, tmp_path / "cache")), items(data_of(photos)))
    assert caplog.messages == [
        f"the cache {cache_file(tmp_path / 'cache')} is full (its disk has less than 1.1 GB left): further images are "
        "decoded"
    ]


@pytest.mark.parametrize("at", [0, 1, 2, 3, 8, 9])
def test_a_full_disk_is_said_in_one_line(photos, tmp_path, decoded, caplog, monkeypatch, at):
    """The disk takes half of one write, and nothing more."""
    plain, write, count = items(data_of(photos)), os.pwrite, [0]

    def pwrite(file, data, offset):
        count[0] += 1
        if count[0] == at + 1:
            return write(file, bytes(data)[: len(data) // 2], offset)
        if count[0] > at + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    data = data_of(photos, tmp_path / "cache")
    for _ in range(2):
        assert same(items(data), plain)
    (line,) = caplog.messages
    assert line.endswith("takes no images ([Errno 28] No space left on device): they are decoded")
    monkeypatch.undo()
    items(data_of(photos, tmp_path / "other"))
    assert same(items(data_of(photos, tmp_path / "cache")), plain)
    decoded.clear()
    assert same(items(data_of(photos, tmp_path / "cache")), plain)
    assert decoded == []
    # Nothing half written was left in between.
    assert cache_file(tmp_path / "cache").stat().st_size == cache_file(tmp_path / "other").stat().st_size


@pytest.mark.parametrize("where", ["a file/cache", "cache"])
def test_a_folder_that_takes_no_cache_is_said_in_one_line(photos, tmp_path, caplog, where):
    (tmp_path / "a file").touch()
    items(data_of(photos, tmp_path / "there"))
    (tmp_path / "cache" / cache_file(tmp_path / "there").name).mkdir(parents=True)
    data = data_of(photos, tmp_path / where)
    for _ in range(2):
        assert same(items(data), items(data_of(photos)))
    (line,) = caplog.messages
    assert f"the cache {tmp_path / where}/images-" in line
    assert "takes no images ([Errno" in line


@pytest.mark.parametrize("given", [-1, float("nan"), float("inf"), "20", True])
def test_a_size_that_is_none_is_refused(photos, tmp_path, given):
    with pytest.raises(ValueError, match=f"cache_gb is {given!r}; allowed is a number of GB above 0, or null"):
        data_of(photos, tmp_path / "cache", cache_gb=given)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("given", [None, 0])
def test_without_a_size_there_is_no_cache(photos, tmp_path, given):
    items(data_of(photos, tmp_path / "cache", cache_gb=given))
    assert not (tmp_path / "cache").exists()
