"""What ``method.fit._target_`` may be in the tests of several processes: a fit, and what each process saw of it.

``SEEN`` names a folder: each process writes there, after each task, its weights, owners and settings.
"""

import os
from pathlib import Path

import torch
from torch import distributed as dist

from packnet_pl.methods import fit_unpruned
from packnet_pl.training import fit_task


def fit(model, datamodule, *, task, prune_ratio, make_trainer, **others):
    def watched(phase, callback):
        trainer = make_trainer(phase, callback)
        settings.append((trainer.world_size, trainer.max_epochs, len(datamodule.data.test)))
        return trainer

    settings = []
    fit_task(model, datamodule, task=task, prune_ratio=prune_ratio, make_trainer=watched, **others)
    seen = {
        "weights": dict(model.state_dict()),
        "owners": dict(model.packnet.owners),
        "prune_ratio": prune_ratio,
        "settings": settings,
        "batch": datamodule._batch_size,
    }
    torch.save(seen, Path(os.environ["SEEN"], f"{task}.{dist.get_rank()}.pt"))
    if os.environ.get("FAIL_IN") == f"{task}.{dist.get_rank()}":
        raise RuntimeError("this process fails, as it was told to")


def unpruned(model, datamodule, *, task, make_trainer, **others):
    def without_validation(phase, callback):
        trainer = make_trainer(phase, callback)
        trainer.limit_val_batches = 0  # its first forward pass would make the processes' statistics equal
        return trainer

    fit_unpruned(model, datamodule, task=task, make_trainer=without_validation, **others)
    torch.save(dict(model.state_dict()), Path(os.environ["SEEN"], f"{task}.{dist.get_rank()}.pt"))
