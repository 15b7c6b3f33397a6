"""Files are replaced as a whole."""

from pathlib import Path

import pytest

from packnet_pl.files import replacing, replacing_unicode


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", [str, Path])
def test_what_was_written_takes_the_name(tmp_path, kind):
    path = tmp_path / "results.json"
    path.write_text("old")
    with replacing(kind(path)) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["results.json"]


def test_the_temporary_file_is_in_the_same_folder_and_has_the_same_ending(tmp_path):
    with replacing(tmp_path / "figure.png") as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".png")
        assert temporary.name != "figure.png"
        temporary.touch()


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", ["old", None])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error, old):
    path = tmp_path / "results.json"
    if old:
        path.write_text(old)

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(tmp_path) == (["results.json"] if old else [])
    assert not old or path.read_text() == old


def test_an_exception_before_anything_was_written_is_not_hidden(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "results.json"):
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_a_writer_that_wrote_nothing_is_noticed(tmp_path):
    (tmp_path / "results.json").write_text("old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "results.json"):
        pass
    assert (tmp_path / "results.json").read_text() == "old"


def test_missing_folders_are_made(tmp_path):
    with replacing(tmp_path / "a" / "b" / "results.json") as temporary:
        temporary.write_text("new")
    assert names(tmp_path / "a" / "b") == ["results.json"]


def test_a_folder_that_takes_no_files_is_the_systems_error_and_not_the_writers():
    with pytest.raises(OSError, match="/proc"), replacing_unicode("/proc/x.pt"):
        raise RuntimeError("open file failed with strerror")
