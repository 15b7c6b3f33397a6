"""The rows of a peer: ``python -m speed_rows.peer_group OUT ADAPTER [quick]``, with its own Python. Torch only."""

import json
import sys
from pathlib import Path

import torch

from speed_rows.peer import PAIRS, STEPS, load_adapter, measure_prune, measure_step


def _main(out: str, file: str, *options: str) -> None:
    torch.set_num_threads(1)
    quick = "quick" in options
    adapter, found = load_adapter(Path(file)), dict[str, list[float]]()
    found["prune-layer"] = measure_prune(adapter, "tiny" if quick else "vgg16", 1 if quick else 3, _say)
    for row, (arch, batch_size, optimizer) in STEPS.items():
        built, rounds = ("tiny", 2) if quick else (arch, PAIRS)
        try:
            found[row] = measure_step(adapter, built, batch_size, optimizer, rounds, _say)
        except ValueError as error:
            _say(f"{row}: refused: {error}")
    Path(out).write_text(json.dumps(found))


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - shown as progress


if __name__ == "__main__":
    _main(*sys.argv[1:])
