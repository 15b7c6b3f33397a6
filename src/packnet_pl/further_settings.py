"""Names what runs record only where it is on, as it came after the paper, and what each is where it is off."""

from typing import Final

__all__ = ["DETAILS", "OFF"]

OFF: Final[dict[str, object]] = {
    "schedule": "oneshot",
    "score": None,
    "which_task": "entropy",
    "ratio": None,
    "tolerance": None,
    "grow": None,
    "grow_below": None,
    "width": 1,
    "mask": None,
    "mask_lr": None,
    "mask_init": None,
    "epochs_train": 1,
    "epochs_retrain": 1,
    "lr_train": 1,
    "lr_retrain": 1,
    "label_smoothing": 0,
    "mixup": 0,
    "cutmix": 0,
    "balance": "none",
    "distillation": 0,
    "temperature": None,
    "callbacks": None,
    "augment": None,
    "retrain": False,
}
"""Name in ``settings`` of ``results.json`` -> its value where it is off; None: it is left out there."""

DETAILS: Final = frozenset({"tolerance", "grow_below", "mask_lr", "mask_init", "temperature"})
"""Names of how an option is set; that it is on, another name says."""
