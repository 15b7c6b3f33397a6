"""The shares that a task has released at each epoch of its retraining, where it is pruned gradually.

Source: Zhu & Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017,
equation 1: from a first share on, less and less is released at a time. Here the first share is half of the whole, and
is released after phase "train"; the whole is, from two thirds of the epochs of phase "retrain" on.
"""

__all__ = ["first_share", "last_cut", "share_at"]


def first_share(ratio: float) -> float:
    """Returns the share that is released before any retraining.

    Args:
        ratio: The whole share, in [0, 1).
    """
    return ratio / 2


def last_cut(epochs: int) -> int:
    """Returns the epoch (from 0) at whose begin the whole share is released: for the last third, it stays so.

    Args:
        epochs: Of phase "retrain", 1 or more.
    """
    return 2 * epochs // 3


def share_at(ratio: float, epoch: int, epochs: int) -> float:
    """Returns the share that is released in an epoch: rising, with ``ratio`` itself from :func:`last_cut` on.

    Args:
        ratio: The whole share, in [0, 1).
        epoch: Of phase "retrain", from 0.
        epochs: How many these are.
    """
    end = last_cut(epochs)
    if epoch >= end:
        return ratio
    return ratio + (first_share(ratio) - ratio) * (1 - epoch / end) ** 3
