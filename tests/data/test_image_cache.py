"""The cache that the embedded tasks have in common."""

import os
import tempfile
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from packnet_pl.data import glyphs, image_cache, spectro
from packnet_pl.data.image_cache import default_cache_dir, drawn_splits

COUNTS = {"train": 2, "val": 1}


def paint(split, count):
    return torch.full((count, 3, 3), len(split), dtype=torch.uint8), torch.arange(count)


def no_drawing(*_):
    pytest.fail("an image was drawn, and the cache should have been read")


def same(left, right):
    return all(
        torch.equal(a, b) for one, other in zip(left, right, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_splits_come_in_their_order_and_from_the_file_the_second_time(tmp_path):
    first = drawn_splits("name", [1], COUNTS, paint, str(tmp_path))
    assert same(first, [paint("train", 2), paint("val", 1)])
    assert same(drawn_splits("name", [1], COUNTS, no_drawing, str(tmp_path)), first)
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("name-")
    assert path.suffix == ".safetensors"


@pytest.mark.parametrize(("name", "recipe"), [("other", [1]), ("name", [2]), ("name", [1, "more"])])
def test_another_name_or_recipe_has_a_file_of_its_own(tmp_path, name, recipe):
    drawn_splits("name", [1], COUNTS, paint, str(tmp_path))
    drawn_splits(name, recipe, COUNTS, paint, str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", [lambda _: b"", lambda _: b"\xff" * 1000, lambda whole: whole[:5], lambda w: w[:-1]])
def test_a_damaged_file_is_made_anew_and_said(tmp_path, caplog, damage):
    first = drawn_splits("name", [1], COUNTS, paint, str(tmp_path))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert same(drawn_splits("name", [1], COUNTS, paint, str(tmp_path)), first)
    assert path.read_bytes() == whole
    assert f"{path} cannot be read" in caplog.text


def test_an_interruption_leaves_no_file(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(image_cache, "save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        drawn_splits("name", [1], COUNTS, paint, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_and_folder_are_made_anew(tmp_path):
    folder = tmp_path / "not" / "there"
    first = drawn_splits("name", [1], COUNTS, paint, str(folder))
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.unlink()
    assert same(drawn_splits("name", [1], COUNTS, paint, str(folder)), first)
    assert path.read_bytes() == whole


def test_a_number_below_one_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(ValueError, match="val_per_class is 0; allowed is 1 or more"):
        drawn_splits("name", [1], {"train": 1, "val": 0}, no_drawing, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data_set", [partial(glyphs, "greek"), spectro], ids=["glyphs", "spectro"])
def test_an_embedded_data_set_is_drawn_once(tmp_path, data_set):
    few = partial(data_set, train_per_class=2, val_per_class=1, test_per_class=1, cache_dir=str(tmp_path))
    first = few()
    (path,) = tmp_path.iterdir()
    tensors = load_file(path)
    save_file({**tensors, "train.images": 255 - tensors["train.images"]}, path)
    again = few()
    assert not same([again.train.tensors], [first.train.tensors])
    for split in ("val", "test"):
        assert same([getattr(again, split).tensors], [getattr(first, split).tensors])


def test_the_cache_is_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "packnet_pl"
    drawn_splits("name", [1], COUNTS, paint, None)
    assert len(list(default_cache_dir().iterdir())) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_dir() == tmp_path / "home" / ".cache" / "packnet_pl"


def test_a_user_without_a_home_has_a_cache_too(monkeypatch):
    """As in a container whose user ID is in no passwd file."""
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert default_cache_dir() == Path(tempfile.gettempdir()) / f"packnet_pl-{os.getuid()}"
