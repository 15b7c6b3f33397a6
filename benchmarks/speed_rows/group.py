"""One group of rows: ``python -m speed_rows.group OUT GROUP [quick]`` writes row -> samples to OUT as JSON.

A group is a module of this package, or ``MODULE:CASE`` where the module measures one case at a time.
"""

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
    module, *case = group.split(":")
    found = import_module(f"speed_rows.{module}").measure("quick" in options, _say, *case)
    Path(out).write_text(json.dumps(found))


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - shown as progress


if __name__ == "__main__":
    _main(*sys.argv[1:])
