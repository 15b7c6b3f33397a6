"""``packnet-report`` on runs of several methods, in a process of its own, as a user calls it."""

import io
import os
import pty
import subprocess

import pytest

from tests.support import SCRIPTS, warm
from tests.support.commands import last_line, run
from tests.support.results import STORAGE, write_other, write_run

pytestmark = pytest.mark.slow

PAPER = {"scope": "layer", "granularity": "weight", "norm": "shared", "bias": "shared"}


@pytest.fixture
def home(tmp_path):
    """Individual networks and PackNet at two ratios, two seeds each."""
    for seed in range(2):
        error = 0.1 + 0.02 * seed
        kept = STORAGE | {"packed_bytes": 600_000, "networks": 2}
        val = {"val_now": [0.75, 0.65]}
        write_other(tmp_path / f"individual/{seed}", "individual", (error, error), seed, storage=kept, **val)
        for ratio in (0.5, 0.75):
            errors = (error + ratio / 10, error + ratio / 10)
            folder = tmp_path / f"packnet-{ratio}/{seed}"
            kept = STORAGE | {"packed_bytes": 330_000, "networks": 1}
            write_run(folder, (ratio, ratio), errors, seed, settings=PAPER, storage=kept, **val)
    return tmp_path


def lines(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_methods_and_ratios_are_printed_and_written(home):
    done = run("packnet-report", "individual", "packnet-0.5", "packnet-0.75", "--output", "out", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    shown = lines(done.stdout)
    assert "method latin greek mean gap forgetting networks MB bits min seeds" in shown
    # By hand: 10 and 12 %, and 5 or 7.5 points more for each seed, so that the gap has no spread.
    assert "individual 11.00 ± 1.41 11.00 ± 1.41 11.00 ± 1.41 0 0 2 0.60 1.50 0.1 2" in shown
    assert "packnet 0.75 18.50 ± 1.41 18.50 ± 1.41 18.50 ± 1.41 7.50 ± 0.00 0 1 0.33 1.50 0.1 2" in shown
    assert "packnet on vgg_small: error at the end, in %" in shown
    assert "0.75 18.50 ± 1.41 18.50 ± 1.41 18.50 ± 1.41 25.00 2" in shown
    names = ["methods.md", "methods.csv", "ratios.csv", "methods.png", "methods.svg", "ratios.png", "ratios.svg"]
    assert shown[-2:] == ["written: " + ", ".join(f"out/{name}" for name in names), "page: out/index.html"]
    assert sorted(path.name for path in (home / "out").iterdir()) == sorted([*names, "index.html"])
    assert (home / "out/methods.png").read_bytes().startswith(b"\x89PNG")
    assert "| packnet 0.5 | 16.00 ± 1.41 |" in (home / "out/methods.md").read_text(encoding="utf-8")
    assert (home / "out/methods.csv").read_text().count("\n") == 1 + 6 * 2
    assert (home / "out/ratios.csv").read_text().count("\n") == 1 + 4 * 2


def test_the_report_of_ratios_alone_is_as_ever(home):
    done = warm.run("packnet-report", "packnet-0.5", "packnet-0.75", cwd=home)
    assert lines(done.stdout) == [
        "packnet on vgg_small: error at the end, in %",
        "",
        "prune ratio latin greek mean free seeds",
        "─" * 72,
        "0.5 16.00 ± 1.41 16.00 ± 1.41 16.00 ± 1.41 25.00 2",
        "0.75 18.50 ± 1.41 18.50 ± 1.41 18.50 ± 1.41 25.00 2",
        "",
        "written: " + ", ".join(f"packnet-0.5/report/ratios.{kind}" for kind in ("csv", "png", "svg")),
        "page: packnet-0.5/report/index.html",
    ]


def test_a_table_and_four_files_for_each_sequence(home):
    write_other(home / "other/0", "finetune", (0.2, 0.3), names=["greek", "latin"])
    done = warm.run("packnet-report", "individual", "packnet-0.5", "other", "--output", "out", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    expected = [f"methods-{number}.{kind}" for number in (1, 2) for kind in ("csv", "md", "png", "svg")]
    assert sorted(path.name for path in (home / "out").iterdir()) == ["index.html", *expected]
    assert "| finetune | 20.00 | 30.00 |" in (home / "out/methods-1.md").read_text(encoding="utf-8")


def test_the_validation_table_says_so_and_stands_beside_that_of_the_test(home):
    words = ("packnet-report", "individual", "packnet-0.5", "packnet-0.75", "--output", "out")
    test, val = warm.run(*words, cwd=home), warm.run(*words, "--split", "val", cwd=home)
    assert (test.returncode, val.returncode, val.stderr) == (0, 0, "")
    shown = lines(val.stdout)
    assert "error at the end on vgg_small, in %: validation split, for choosing settings" in shown
    assert "packnet on vgg_small: error at the end on the validation split, in %" in shown
    assert "packnet 0.75 25.00 ± 0.00 35.00 ± 0.00 30.00 ± 0.00 0 - 1 0.33 1.50 0.1 2" in shown
    names = [f"methods.{kind}" for kind in ("md", "csv", "png", "svg")] + ["ratios.csv", "ratios.png", "ratios.svg"]
    names.append("index.html")
    beside = [name.replace(".", "-val.") for name in names]
    assert sorted(path.name for path in (home / "out").iterdir()) == sorted(names + beside)


def test_runs_that_are_compared_in_the_folder_of_one_leave_its_page_alone(home):
    one, other = "packnet-0.5/0", "packnet-0.75/0"
    assert last_line(warm.run("packnet-report", one, cwd=home).stdout) == f"page: {one}/report/index.html"
    alone = (home / one / "report/index.html").read_text(encoding="utf-8")
    done = warm.run("packnet-report", one, other, cwd=home)
    assert last_line(done.stdout) == f"page: {one}/report/comparison.html"
    assert (home / one / "report/index.html").read_text(encoding="utf-8") == alone
    compared = (home / one / "report/comparison.html").read_text(encoding="utf-8")
    assert '<a href="index.html">packnet-0.5/0</a>' in compared
    assert "packnet-0.75/0</th>" in compared


def test_a_run_that_is_not_finished_has_a_page_of_what_there_is(home):
    write_other(home / "half", "finetune", (0.25,), names=["latin"], complete=False)
    done = warm.run("packnet-report", "half", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    text = (home / "half/report/index.html").read_text(encoding="utf-8")
    assert "This run is not finished" in text
    assert "packnet-resume half" in text
    assert "<td>25.00</td>" in text


def test_a_run_stands_beside_individual_networks_on_its_page(home):
    done = warm.run("packnet-report", "packnet-0.5/0", "individual", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    text = (home / "packnet-0.5/0/report/index.html").read_text(encoding="utf-8")
    assert "Beside individual networks" in text
    # By hand: 15 %, and 10 % for the individual networks of the same seed.
    assert "<td>15.00</td><td>5.00</td>" in text


def test_what_cannot_be_compared_is_told(home):
    write_other(home / "far/0", "finetune", (0.2, 0.3), 5)
    write_other(home / "far/1", "finetune", (0.2, 0.3), 5)
    write_other(home / "far/2", "joint", (0.2, 0.3), complete=False)
    done = warm.run("packnet-report", "individual", "far", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    said = " ".join(done.stdout.split())
    assert "finetune: the gap is a difference of means, as there are individual networks of other seeds only" in said
    assert "finetune, seed 5: 2 runs (far/0, far/1) are counted as one sample each" in said
    assert "not finished, of 5 runs: far/2" in said


def test_a_ratio_that_occurs_twice_with_one_seed_is_told(home):
    write_run(home / "again/0", (0.5, 0.5), (0.2, 0.2), settings=PAPER)
    done = warm.run("packnet-report", "packnet-0.5", "again", cwd=home)
    assert "packnet 0.5, seed 0: 2 runs (packnet-0.5/0, again/0) are counted" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["old", "--split", "val"], "1 of 1 finished run without a validation accuracy of their end (val_now in"),
        (["unfinished"], "of 1 run none is finished; go on with packnet-resume unfinished/0"),
        (["individual", "damaged"], "damaged/0/results.json is not a results file, or is damaged"),
        (["nowhere"], "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_reported_has_one_line(home, words, said):
    write_other(home / "old/0", "finetune", (0.2, 0.3))
    write_other(home / "unfinished/0", "finetune", (0.2, 0.3), complete=False)
    write_other(home / "damaged/0", "individual", (0.2, 0.3), storage="lost")
    done = warm.run("packnet-report", *words, cwd=home)
    assert done.returncode == 2
    assert last_line(done.stderr).startswith(f"packnet-report: {said}")
    assert done.stderr.count("\n") == 1
    assert not list(home.glob("*/report"))


def test_a_narrow_screen_cuts_no_figure(home):
    leader, follower = pty.openpty()
    command = [SCRIPTS / "packnet-report", "individual", "packnet-0.75"]
    environment = os.environ | {"TERM": "dumb"}  # 80 columns, and no colours
    with subprocess.Popen(command, cwd=home, stdout=follower, env=environment) as process:
        os.close(follower)
        shown = _read(leader)
    assert process.returncode == 0
    assert "packnet 0.75 18.50 18.50 18.50 7.50 0 1 0.33 2" in lines(shown)
    assert "± 1.41 ± 1.41 ± 1.41 ± 0.00" in lines(shown)


def _read(leader):
    found = io.BytesIO()
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # Linux's end of a pseudo-terminal
            part = b""
        if not part:
            os.close(leader)
            return found.getvalue().decode()
        found.write(part)
