"""Fits a task as a run does, and leaves behind what each process of each job was told."""

import json
import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from packnet_pl import fit_task


def fit_and_tell(model, datamodule, *, task, prune_ratio, **rest):
    told = {"job": HydraConfig.get().runtime.output_dir, "task": task, "ratio": prune_ratio}
    path = Path(os.environ["SPY"]) / f"{os.getpid()}-{task}.json"
    path.write_text(json.dumps({**told, "rank": int(os.environ.get("LOCAL_RANK", 0))}))
    fit_task(model, datamodule, task=task, prune_ratio=prune_ratio, **rest)
