"""What is kept of a file of metrics when a fit goes on."""

import pytest

from packnet_pl.run.metrics_file import MetricsFile

TEXT = "epoch,loss,step\r\n0,1.5,4\r\n1,1.25,9\r\n"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(TEXT, newline="")
    return path


def text(path):
    return path.read_text() if path.exists() else None


@pytest.mark.parametrize(
    ("left", "count", "kept"),
    [
        (TEXT, 2, TEXT),
        (TEXT + "2,1.125,14\r\n", 2, TEXT),
        (TEXT + "2,1.1", 2, TEXT),
        (TEXT, 0, None),
        ("", 2, None),
        ("epoch,lo", 2, None),
        ("epoch,loss,step,val\r\n0,1.5,4,\r\n1,1.25,9,\r\n1,,9,0.5\r\n", 2, TEXT),
    ],
    ids=["all", "not later ones", "not half a row", "none", "an empty file", "half a header", "not a later column"],
)
def test_the_first_rows_are_kept_as_they_are(path, left, count, kept):
    path.write_text(left, newline="")
    MetricsFile(str(path.parent)).keep_first(count)
    assert text(path) == (kept and kept.replace("\r\n", "\n"))


def test_a_file_that_is_there_is_left_until_it_is_known_where_the_fit_goes_on(path):
    MetricsFile(str(path.parent))
    assert path.read_bytes() == TEXT.encode()


def test_rows_go_on_behind_those_that_are_kept_also_with_a_new_column(path):
    file = MetricsFile(str(path.parent))
    file.keep_before(9)
    file.log_metrics({"loss": 1.0, "val": 0.5}, step=9)
    assert file.num_rows == 2
    file.save()
    assert path.read_text() == "epoch,loss,step,val\n0,1.5,4,\n,1.0,9,0.5\n"
    assert [left.name for left in path.parent.iterdir()] == ["metrics.csv"]


def test_a_writer_that_fails_leaves_the_earlier_rows(path, monkeypatch):
    """A full disk, or a kill, while the header is written anew."""
    file = MetricsFile(str(path.parent))
    file.keep_first(2)
    file.log_metrics({"val": 0.5}, step=9)
    monkeypatch.setattr("csv.DictWriter.writeheader", lambda self: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        file.save()
    assert path.read_bytes() == TEXT.encode()
