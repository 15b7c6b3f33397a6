"""Counts the optimizer steps of an epoch, and the images that its last batch leaves out."""

from typing import NamedTuple

__all__ = ["EpochSteps", "epoch_steps"]


class EpochSteps(NamedTuple):
    """Steps, batches and images of one epoch of a training split.

    Attributes:
        steps: Of the optimizer.
        batches: Of each process.
        batch_size: Images in a batch of one process.
        left_out: Images that are in no batch, as the last one would not be full; in each epoch other ones.
    """

    steps: int
    batches: int
    batch_size: int
    left_out: int


def epoch_steps(size: int, batch_size: int, accumulate: int = 1, processes: int = 1) -> EpochSteps:
    """Returns the steps that :meth:`TaskDataModule.train_dataloader` makes of a split.

    Args:
        size: Number of images.
        batch_size: Images per optimizer step, over all processes together.
        accumulate: Batches per optimizer step.
        processes: How many share the split.
    """
    each, mine = batch_size // (accumulate * processes), -(-size // processes)
    batches = max(1, mine // each)  # a split that does not fill one batch is one batch
    used = min(each, mine) * batches * processes
    return EpochSteps(-(-batches // accumulate), batches, min(each, mine), max(0, size - used))
