"""Trainers for fits that are tiny on purpose, without what Lightning has to say about that."""

import logging

import pytorch_lightning as pl

logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.ERROR)


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
