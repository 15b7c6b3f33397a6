"""The mean of the weights over the last part of a fit."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging

__all__ = ["LastPartAverage"]


class LastPartAverage(WeightAveraging):
    """Takes, when a fit ends, the mean of the weights after each step of its last part, all steps alike.

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018, algorithm 1, with steps
    in place of cycles. Buffers, such as running statistics, are averaged too.

    Args:
        last: Share of the optimizer steps, in (0, 1]; at least the last step.

    Raises:
        ValueError: If ``last`` is something else.
    """

    def __init__(self, last: float = 0.5) -> None:
        super().__init__(use_buffers=True)
        if not (isinstance(last, (int, float)) and 0 < last <= 1):
            raise ValueError(f"last is {last!r}; allowed is a share of the steps in (0, 1]")
        self.last = last
        self._first: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Counts the steps of the fit.

        Raises:
            ValueError: If their number is not known.
        """
        steps = trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError("an average over the last part needs to know the end: give the Trainer max_epochs")
        self._first = int(steps) - max(1, round(self.last * steps))

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Returns whether the step with this index, from 0 on, belongs to the last part."""
        return step_idx is not None and self._first is not None and step_idx >= self._first
