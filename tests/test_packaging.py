"""What is installed is what is in the tree, from the checkout and from a wheel."""

import configparser
import json
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from PIL import Image

from tests.support import ROOT

SOURCE = ROOT / "src" / "packnet_pl"


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder of a source distribution and of the wheel that was built from it, not from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    # Without isolation, so that nothing is fetched: setuptools is one of the dev requirements.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist):
    (path,) = dist.glob("*.whl")
    return path


def test_setup_cfg_lists_every_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {"packnet_pl", "packnet_pl.conf"}
    found |= {
        ".".join(("packnet_pl", *path.parent.relative_to(SOURCE).parts)) for path in SOURCE.glob("**/__init__.py")
    }
    assert listed == found


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_wheel_holds_every_module_and_every_configuration(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in SOURCE.rglob("*.py"):
        assert f"packnet_pl/{path.relative_to(SOURCE).as_posix()}" in names
    for path in [*(ROOT / "conf").rglob("*.yaml"), ROOT / "conf" / "__init__.py"]:
        assert f"packnet_pl/conf/{path.relative_to(ROOT / 'conf').as_posix()}" in names
    assert "packnet_pl/py.typed" in names
    assert not any(name.startswith(("tests", "conf/")) for name in names)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_source_distribution_holds_every_file_that_git_knows(dist):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout")
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as files:
        held = {name.partition("/")[2] for name in files.getnames()}
    tracked = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    of_the_site = {name for name in tracked if name.startswith(".")}
    assert tracked - of_the_site <= held
    assert not {name for name in held if "__pycache__" in name or name.startswith((".", "shared"))}


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_metadata_are_what_an_index_accepts(wheel):
    (name,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/METADATA"))
    metadata = Metadata.from_email(zipfile.ZipFile(wheel).read(name), validate=True)
    assert metadata.name == "packnet-pl"
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.description_content_type == "text/markdown"
    assert metadata.description.startswith("# packnet_pl")
    # What an index refuses in an upload: requirements by address.
    assert all(requirement.url is None for requirement in metadata.requires_dist)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_command_runs_from_a_wheel_outside_the_checkout(wheel, tmp_path):
    environment = tmp_path / "an environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    # The requirements come from the environment of the tests, the package only from the wheel.
    site = next(path for path in map(Path, sys.path) if (path / "torch").is_dir())
    target = next((environment / "lib").glob("python*")) / "site-packages"
    install = [str(python), "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # Appended behind the environment's own packages; .pth files in it are not read, so no editable install shows.
    (target / "requirements.pth").write_text(f"{site}\n")
    done = subprocess.run(
        [str(environment / "bin" / "packnet-train"), "debug=tiny", "sequence.order=[digits]", "hydra.run.dir=r"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r" / "results.json").is_file()
    _predict_from_the_file_alone(environment, tmp_path / "r" / "packed.safetensors", tmp_path / "elsewhere")
    where = subprocess.run(
        [str(python), "-c", "import packnet_pl, packnet_pl.conf; print(packnet_pl.__file__, packnet_pl.conf.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert where.count(str(environment)) == 2
    assert str(ROOT) not in where


def _predict_from_the_file_alone(environment, packed, folder):
    folder.mkdir()
    shutil.move(packed, folder / "copied.safetensors")
    Image.new("L", (40, 30), 200).save(folder / "image.png")
    words = ["copied.safetensors", "--task", "digits", "--json", "image.png"]
    done = subprocess.run(
        [str(environment / "bin" / "packnet-predict"), *words], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {found["name"] for found in json.loads(done.stdout)["classes"]} <= set("0123456789")


def test_the_editable_install_finds_the_configurations_of_the_checkout(tmp_path):
    code = "import packnet_pl.conf; print(packnet_pl.conf.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == ROOT / "conf"


def test_the_exact_versions_name_no_registry():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert all("==" in line and "/" not in line and "@" not in line for line in pins)
