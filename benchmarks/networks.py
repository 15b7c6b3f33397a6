"""Which networks hold the promise, and how much of each the tasks divide: python benchmarks/networks.py [--hours H].

Tries networks of torch, torchvision, timm and transformers with random weights, two tasks each, every one in a process
of its own with a limit of time and memory. Outcomes go to a file, one JSON object a line: what is in it is not tried
again, so a sweep that was stopped goes on. ``--page`` writes docs/networks.md from it.
"""

import argparse
import json
import time
from itertools import chain
from pathlib import Path

import torch
from rich.console import Console

from network_sweep import LIBRARIES
from network_sweep.page import write_page
from network_sweep.processes import Limits, in_processes
from network_sweep.record import Record

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Tries networks until all were tried or the time is over, and writes the page if asked to."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--results", type=Path, default=Path("runs/networks.jsonl"), help="is read, and grows")
    parser.add_argument("--libraries", nargs="*", default=list(LIBRARIES), choices=list(LIBRARIES))
    parser.add_argument("--only", nargs="*", help="names of networks; all if not given")
    parser.add_argument("--hours", type=float, default=0.0, help="no network is begun after these")
    parser.add_argument("--workers", type=int, default=1, help="networks at a time")
    parser.add_argument("--seconds", type=int, default=60, help="of one core, for one network")
    parser.add_argument("--gigabytes", type=int, default=8, help="for one network")
    parser.add_argument("--page", action="store_true", help="writes docs/networks.md from the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.hours:
        tried = {(record.library, record.name) for record in read(arguments.results)}
        names = [each for each in order(arguments.libraries) if each not in tried]
        names = [each for each in names if arguments.only is None or each[1] in arguments.only]
        limits = Limits(arguments.seconds, arguments.gigabytes, time.monotonic() + 3600 * arguments.hours)
        sweep(names, arguments.results, arguments.workers, limits)
    if arguments.page:
        known = {library: load().count() for library, load in LIBRARIES.items()}
        write_page(read(arguments.results), known, ROOT / "docs" / "networks.md")


def read(path: Path) -> list[Record]:
    """Returns the outcomes in the file: the last one of each network."""
    lines = path.read_text().splitlines() if path.exists() else []
    records = [Record(**json.loads(line)) for line in lines]
    return list({(record.library, record.name): record for record in records}.values())


def order(libraries: list[str]) -> list[tuple[str, str]]:
    """Returns library and name of every network: of timm one of each family in its turn, and the rest last."""
    names = {library: LIBRARIES[library]().names() for library in libraries}
    families = LIBRARIES["timm"]().families() if "timm" in libraries else 0
    parts = [(library, names[library][:families] if library == "timm" else names[library]) for library in libraries]
    rest = ("timm", names.get("timm", [])[families:])
    return list(chain.from_iterable([(library, name) for name in some] for library, some in [*parts, rest]))


def sweep(names: list[tuple[str, str]], path: Path, workers: int, limits: Limits) -> None:
    """Tries networks and adds each outcome to the file when it is known."""
    console = Console()
    path.parent.mkdir(parents=True, exist_ok=True)
    for number, record in enumerate(in_processes(names, workers, limits), 1):
        with path.open("a") as file:
            file.write(json.dumps(vars(record)) + "\n")
        console.print(f"{number}/{len(names)} {record}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
