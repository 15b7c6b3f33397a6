"""A local Ray of two worker processes: a sweep through Hydra's ray launcher."""

import json

import pytest

from tests.support.commands import run_installed

pytest.importorskip("ray", reason="no ray: pip install 'packnet-pl[sweep]'")
pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="no hydra-ray-launcher: pip install 'packnet-pl[sweep]'")
pytestmark = [pytest.mark.slow, pytest.mark.soak]

WORDS = ["debug=tiny", "debug.fraction=0.05", "optim.batch_size=16", "logger=none", "sequence.order=[digits,greek]"]


def test_a_sweep_on_two_workers_is_one_directory_with_a_folder_per_job(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    workers = ["+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.remote.num_cpus=1"]
    launcher = ["hydra/launcher=ray", *workers, "hydra.sweep.dir=sweep"]
    done = run_installed("packnet-train", "-m", *WORDS, *launcher, "prune.ratio=0.5,0.75", cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    found = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "sweep").glob("*/results.json")}
    assert {name: results["tasks"][0]["prune_ratio"] for name, results in found.items()} == {"0": 0.5, "1": 0.75}
    assert all(results["complete"] for results in found.values())
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]
