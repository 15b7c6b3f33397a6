"""Fits that are tiny on purpose, without what Lightning has to say about that."""

import logging

import pytest
import pytorch_lightning as pl

__all__ = ["expect_warnings", "quiet"]

EXPECTED = (
    "does not have many workers",
    "have no `val_dataloader`",
    "have no `training_step`",
    "module.s. in eval mode at the start of training",
    "callbacks used to create the checkpoint need to be provided",
    "exists and is not empty",
    "LeafSpec.. is deprecated",
    "resuming from a checkpoint that ended before the epoch ended",
    "load_from_checkpoint.. will know no task",
    "Trainer.barebones=True.. is configured",
)

logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.ERROR)


def expect_warnings(item):
    """Lets a test give the warnings that such fits give; for ``pytest_itemcollected``."""
    for warning in EXPECTED:
        item.add_marker(pytest.mark.filterwarnings(f"ignore:.*{warning}"))


def quiet(*callbacks, **settings):
    """A Trainer that prints and writes nothing unless it is told to."""
    defaults = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    return pl.Trainer(**{**defaults, **settings}, callbacks=list(callbacks))
