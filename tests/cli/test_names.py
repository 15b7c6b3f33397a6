"""Names that are not UTF-8: carried whole and shown escaped, or refused in one line before anything is begun."""

import csv
import json
import os
import re
import shutil

import pytest
from PIL import Image

from packnet_pl.configuration.overrides import check_unicode
from packnet_pl.errors import UsageError
from packnet_pl.names import as_unicode, check_class_names, distinct_names, shown
from tests.support import MADE_AT_5B152F2, warm

ODD = os.fsdecode(b"caf\xe9")


@pytest.fixture
def odd(tmp_path):
    """A folder whose name is not UTF-8, with a run directory and images in it."""
    folder = tmp_path / ODD
    folder.mkdir()
    shutil.copytree(MADE_AT_5B152F2 / "finished", folder / "run")
    shutil.copy(folder / "run" / "packed.safetensors", tmp_path / "plain.safetensors")
    for name in ("a.png", os.fsdecode(b"\xff\n.png")):
        Image.new("L", (24, 24)).save(folder / name, format="png")
    (folder / "z.png").write_bytes(b"no image")
    return folder


def ended(done, code=0):
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "damaged" not in done.stderr
    return done


def test_packed_files_and_runs_are_read_whatever_they_are_called(odd):
    assert "latin" in ended(warm.run("packnet-inspect", odd / "run" / "packed.safetensors", cwd=odd.parent)).stdout
    evaluated = ended(warm.run("packnet-eval", odd / "run", cwd=odd.parent))
    assert evaluated.stdout.count("yes") == 2
    reported = ended(warm.run("packnet-report", odd / "run", cwd=odd.parent))
    assert f"{odd.parent}/caf\\xe9/run/report/" in reported.stdout
    for path in (odd / "run" / "report").glob("*.csv"):
        list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


def test_images_are_asked_about_and_shown_escaped(odd):
    done = ended(warm.run("packnet-predict", "plain.safetensors", "--task", "digits", ODD, cwd=odd.parent), 1)
    assert r"caf\xe9/a.png" in done.stdout
    assert r"caf\xe9/\xff\x0a.png" in done.stdout
    assert r"cannot be read as an image: caf\xe9/z.png" in done.stderr
    done = ended(warm.run("packnet-predict", odd / "run", "--task", "digits", "--json", ODD, cwd=odd.parent), 1)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["picture"] for line in lines] == [r"caf\xe9/a.png", r"caf\xe9/z.png", "caf\\xe9/\\xff\n.png"]


@pytest.mark.parametrize(
    "words",
    [
        ["--task", "digits", "--format", "torch_export"],  # torch would end the process
        ["--format", "packed", "--dtype", "bf16"],
    ],
    ids=["torch_export", "packed"],
)
def test_exports_are_written_whatever_they_are_called(odd, words):
    before = len(list(odd.iterdir()))
    done = ended(warm.run("packnet-export", "plain.safetensors", *words, "--output", odd / ODD, cwd=odd.parent))
    assert f"{odd.parent}/caf\\xe9/caf\\xe9: " in done.stdout
    assert (odd / ODD).stat().st_size > 1000
    assert len(list(odd.iterdir())) == before + 1


def test_what_a_run_would_have_to_write_down_is_refused(odd):
    before = sorted(odd.parent.rglob("*"))
    words = ["debug=tiny", "sequence.order=[digits]"]
    for program, given, said in (
        ("packnet-train", [*words, f"hydra.run.dir={ODD}/new"], "a word of the command line is 'hydra.run.dir="),
        ("packnet-plan", ["sequence=folders", f"sequence.folders={{a: {ODD}}}"], "a word of the command line is 'seq"),
        ("packnet-resume", [odd / "run"], f"the run directory is '{odd.parent}/"),
    ):
        done = ended(warm.run(program, *given, cwd=odd.parent), 2)
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"{program}: {said}")
        assert r"caf\xe9" in line
        assert "not valid Unicode (UTF-8)" in line
    done = ended(warm.run("packnet-train", *words, cwd=odd), 2)
    assert done.stderr.startswith(f"packnet-train: hydra.run.dir is '{odd.parent}/caf\\xe9/runs/")
    assert sorted(odd.parent.rglob("*")) == before
    with pytest.raises(UsageError, match=r"^sequence\.root is '/caf\\xe9', which is not valid Unicode"):
        check_unicode("", {"seed": 0, "sequence": {"order": ["a"], "root": f"/{ODD}"}})


def test_a_class_folder_is_refused_before_training(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", ODD):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for index in range(2):
                Image.new("L", (24, 24)).save(folder / f"{index}.png")
    before = sorted(tmp_path.rglob("*"))
    words = ["debug=tiny", "sequence=folders", "sequence.folders={pets: set}", "hydra.run.dir=r"]
    done = ended(warm.run("packnet-train", *words, cwd=tmp_path), 2)
    (line,) = done.stderr.splitlines()
    assert f"the class folder {tmp_path}/set/train/caf\\xe9 has a name that is not valid Unicode (UTF-8)" in line
    assert sorted(tmp_path.rglob("*")) == before


# --- the helpers --------------------------------------------------------------------------------------------------


def test_what_can_be_shown_is_shown_as_it_is_and_the_rest_escaped_on_one_line():
    assert shown("café 猫 a\\b") == as_unicode("café 猫 a\\b") == "café 猫 a\\b"
    assert (shown("a\nb\udce9\ud800\x1b[1m"), as_unicode("a\nb\udce9")) == (r"a\x0ab\xe9\ud800\x1b[1m", "a\nb\\xe9")
    shown(os.fsdecode(bytes(range(1, 256)))).encode()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a", "a"], "classes 0 and 1 are both called 'a'"),
        (["é", "e\u0301"], r"classes 0 and 1 are both called 'é' (written '\xe9' and 'e\u0301')"),
        (["a", "caf\udce9"], r"the name of class 1 is 'caf\xe9': it has to be valid Unicode"),
        (["a\n", "b"], r"the name of class 0 is 'a\x0a'"),
        (["a", " "], "the name of class 1 is ' '"),
    ],
)
def test_class_names_that_say_nothing_are_refused(names, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        check_class_names(names)
    check_class_names(["a", "A", "a b", "a_b", "猫\u200d"])


def test_only_what_is_there_twice_gets_its_key():
    assert distinct_names(["crane", "owl", "crane"], ["k1", "k2", "k3"]) == ("crane (k1)", "owl", "crane (k3)")
