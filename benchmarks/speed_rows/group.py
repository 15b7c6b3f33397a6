"""One group of rows: ``python -m speed_rows.group OUT GROUP [quick]`` writes row -> samples to OUT as JSON."""

import json
import logging
import sys
import warnings
from importlib import import_module
from pathlib import Path

import torch


def _main(out: str, group: str, *options: str) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    found = import_module(f"speed_rows.{group}").measure("quick" in options, lambda text: print(text, flush=True))  # noqa: T201
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
