"""Trains the same with two commits and compares what comes out: python benchmarks/compare_versions.py [OLD [NEW]] ...

Each commit is installed, without dependencies, into a temporary folder, so that both run with the libraries of this
environment. Each setting is a `packnet-train debug=tiny` of its own: fixed seed, one thread, one process. Compared,
bit for bit, are

- the tensors of ``packed.safetensors``: names, types, shapes and bytes. The tensor ``checksum`` is left out: it is the
  hash of the header, which in format 2 says more than in format 1, that of 5b152f2. The tensors of both are the same.
- the accuracies in ``results.json``: each task's on the test split after each task, and on the validation split.

The exit code is 1 if anything differs. Images of the embedded tasks are drawn once, into the user's cache, as always.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors import deserialize, safe_open

ROOT = Path(__file__).parent.parent
OLD = "5b152f2"
SETTINGS = {
    "default": (),
    "per task": ("norm=per_task", "bias=per_task", "prune.scope=global"),
    "lwf": ("method=lwf",),
}


@dataclass(frozen=True)
class Outcome:
    """What one run left behind.

    Args:
        format: Of the packed file; not compared.
        tensors: Of each tensor of the packed file but ``checksum``, by its name: type, shape and the hash of its bytes.
        accuracies: Of ``results.json``: ``accuracy``, and ``val_accuracy`` of each task.
    """

    format: int
    tensors: dict[str, str]
    accuracies: dict[str, Any]

    def hash(self) -> str:
        """Returns the hash over the names, types, shapes and bytes of all tensors."""
        return hashlib.sha256(json.dumps(self.tensors, sort_keys=True).encode()).hexdigest()[:16]


def outcome(folder: Path) -> Outcome:
    """Returns what is compared of the run directory ``folder``."""
    packed = folder / "packed.safetensors"
    with safe_open(packed, framework="numpy") as file:
        header = json.loads(file.metadata()["packnet_pl"])
    tensors = {
        name: f"{tensor['dtype']} {tensor['shape']} {hashlib.sha256(tensor['data']).hexdigest()}"
        for name, tensor in deserialize(packed.read_bytes())  # type: ignore[no-untyped-call]
        if name != "checksum"
    }
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    validation = {task["name"]: task["val_accuracy"] for task in results["tasks"]}
    return Outcome(header["format"], tensors, {"accuracy": results["accuracy"], "val_accuracy": validation})


def differences(old: Outcome, new: Outcome) -> list[str]:
    """Returns a line for each tensor, and one for each kind of accuracy, in which the two differ."""
    found = []
    for name in sorted(old.tensors.keys() | new.tensors.keys()):
        before, after = old.tensors.get(name, "none"), new.tensors.get(name, "none")
        if before != after:
            found.append(f"tensor {name}: {before} -> {after}")
    for kind, before in old.accuracies.items():
        if before != new.accuracies[kind]:
            found.append(f"{kind}: {before} -> {new.accuracies[kind]}")
    return found


def install(commit: str, folder: Path) -> Path:
    """Installs the package as it was at ``commit`` below ``folder``, and returns the folder of its modules."""
    source, site = folder / "source", folder / "site"
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(source, filter="data")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)
    return site


def train(site: Path, overrides: Sequence[str], folder: Path, seed: int) -> Outcome:
    """Trains in a process of its own with the package below ``site``, and returns what it left in ``folder``."""
    words = ["debug=tiny", f"seed={seed}", "logger=none", f"hydra.run.dir={folder}", *overrides]
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(site / "bin" / "packnet-train"), *words]
    done = subprocess.run(command, env=environment, cwd=site, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return outcome(folder)


def working_tree() -> str:
    """Returns a commit of the working tree, or HEAD if it is the same; files that git does not know are not in it."""
    made = subprocess.run(["git", "stash", "create"], cwd=ROOT, check=True, capture_output=True, text=True)
    return made.stdout.strip() or "HEAD"


def main() -> None:
    """Prints a block for each setting."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("old", nargs="?", default=OLD, help=f"a commit ({OLD})")
    parser.add_argument("new", nargs="?", help="another one (the working tree, as far as git knows its files)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    commits = {"old": arguments.old, "new": arguments.new or working_tree()}
    differ = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sites = {side: install(commit, folder / side) for side, commit in commits.items()}
        for setting, overrides in SETTINGS.items():
            console.print(f"{setting}: packnet-train {' '.join(['debug=tiny', *overrides])}")
            runs = {
                side: train(site, overrides, folder / side / setting.replace(" ", "_"), arguments.seed)
                for side, site in sites.items()
            }
            for side, run in runs.items():
                what = f"{len(run.tensors)} tensors, format {run.format}"
                console.print(f"  {side} {commits[side][:7]}  {run.hash()}  {what}")
                console.print(f"    {json.dumps(run.accuracies)}")
            found = differences(runs["old"], runs["new"])
            differ = differ or bool(found)
            console.print(*(found or ["the same"]), sep="\n  ")
    sys.exit(int(differ))


if __name__ == "__main__":
    main()
