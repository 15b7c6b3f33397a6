"""Several processes at one cache: they fill it together, are killed, or are stopped, and each has the right images."""

import fcntl
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from packnet_pl.data import pixel_file, pixel_table
from packnet_pl.data.cached_pixels import cached_pixels
from packnet_pl.data.processing import processing

FORKED = multiprocessing.get_context("fork")
HOW = processing(image_size=32, resize=40)
COUNT = 30


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(0)
    found = []
    for number in range(COUNT):
        found.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(rng.integers(0, 256, (50, 50 + number, 3), dtype=np.uint8)).save(found[-1])
    return found


class Reader:
    """Reads all images through the cache, in an order of its own."""

    def __init__(self, paths, folder):
        self.paths, self.count = paths, 0
        self._cached = cached_pixels(self._decode, HOW.preparation, paths, 0.1, str(folder))

    def _decode(self, path, box):
        self.count += 1
        return HOW.pixels(path, box)

    def __call__(self, order=0):
        for number in np.random.default_rng(order).permutation(len(self.paths)):
            path = self.paths[number]
            assert np.array_equal(self._cached(path, None), HOW.pixels(path))
        return self.count


def run(*targets):
    """Runs functions beside each other in processes; returns the exit codes."""
    processes = [FORKED.Process(target=target) for target in targets]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def file_of(folder):
    (path,) = Path(folder).glob("images-*.pixels")
    return path


def size_of(paths, folder):
    """Bytes of a cache that one process filled."""
    Reader(paths, folder)()
    return file_of(folder).stat().st_size


@pytest.mark.parametrize("shared", [True, False], ids=["one reader, forked", "readers of their own"])
def test_processes_fill_it_together(paths, tmp_path, monkeypatch, shared):
    write = pixel_file.write_at
    # Slowly, so that they meet.
    monkeypatch.setattr(pixel_file, "write_at", lambda *given: (time.sleep(0.001), write(*given)))
    reader = Reader(paths, tmp_path / "cache")
    readers = [reader if shared else Reader(paths, tmp_path / "cache") for _ in range(4)]
    targets = [lambda number=number: readers[number](order=number) for number in range(4)]
    assert run(*targets) == [0] * 4
    # Each image is there once, whoever was first.
    assert file_of(tmp_path / "cache").stat().st_size == size_of(paths, tmp_path / "alone")
    assert Reader(paths, tmp_path / "cache")() == 0
    assert reader() == 0


@pytest.mark.parametrize("at", [0, 1, 2, 3, 6, 7, 12])
def test_a_process_that_is_killed_while_it_writes_loses_nothing(paths, tmp_path, at):
    """SIGKILL in the middle of a write: of the header, of pixels, of a slot; others go on."""

    def killed():
        write, count = os.pwrite, [0]

        def pwrite(file, data, offset):
            count[0] += 1
            if count[0] > at:
                write(file, bytes(data)[: len(data) // 2], offset)
                os.kill(os.getpid(), signal.SIGKILL)
            return write(file, data, offset)

        os.pwrite = pwrite
        Reader(paths, tmp_path / "cache")()

    assert run(killed) == [-signal.SIGKILL]
    assert file_of(tmp_path / "cache").exists()
    found = Reader(paths, tmp_path / "cache")()
    assert found == COUNT - max(0, at - 1) // 2
    assert Reader(paths, tmp_path / "cache")() == 0
    # What was half written stays as a gap.
    assert file_of(tmp_path / "cache").stat().st_size - size_of(paths, tmp_path / "alone") in range(40 * 64 * 3)


def test_processes_that_are_killed_beside_others(paths, tmp_path):
    """Wherever they are; those beside them end well, and so does the next run."""
    survivor = FORKED.Process(target=Reader(paths, tmp_path / "cache"))
    survivor.start()
    for number in range(6):
        process = FORKED.Process(target=Reader(paths, tmp_path / "cache"), args=(number,))
        process.start()
        process.join(0.01 + 0.01 * number)
        process.kill()
        process.join(60)
    survivor.join(120)
    assert survivor.exitcode == 0
    Reader(paths, tmp_path / "cache")()
    assert Reader(paths, tmp_path / "cache")() == 0


def test_a_process_that_was_stopped_with_the_lock_stops_no_other_one(paths, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pixel_file, "_TRIES", 2)
    Reader(paths[:1], tmp_path / "cache")()
    with file_of(tmp_path / "cache").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert Reader(paths, tmp_path / "cache")() == COUNT - 1
    assert caplog.text == ""
    assert Reader(paths, tmp_path / "cache")() == COUNT - 1
    assert Reader(paths, tmp_path / "cache")() == 0


def test_a_reader_takes_no_memory_for_what_it_reads(tmp_path):
    """Beside the image at hand: the pixels are in the system's page cache only."""
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"{number}.bmp") for number in range(60)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (400, 400, 3), dtype=np.uint8)).save(path)
    how = processing(image_size=400, resize=400)
    cached = cached_pixels(how.pixels, how.preparation, paths, 0.1, str(tmp_path / "cache"))
    for path in paths:
        cached(path, None)
    assert file_of(tmp_path / "cache").stat().st_size > 28_000_000

    def memory():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def reads():
        for path in paths[:5]:
            cached(path, None)
        before = memory()
        for path in paths:
            cached(path, None)
        assert memory() - before < 5_000_000

    assert run(reads) == [0]


def test_a_table_without_room_is_said(paths, tmp_path, monkeypatch, caplog):
    """A data set that grew to many times its size."""
    monkeypatch.setattr(pixel_file, "_FEWEST", 1)
    monkeypatch.setattr(pixel_table, "_WINDOW", 1)
    Reader(paths[:1], tmp_path / "cache")()
    Reader(paths, tmp_path / "cache")()
    (line,) = caplog.messages
    assert line == (
        f"the cache {file_of(tmp_path / 'cache')} is full (it was made for fewer images; delete it to begin it anew): "
        "further images are decoded"
    )
