"""The exponential moving average of the weights, of any number of steps."""

from functools import partial

from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

__all__ = ["ExponentialAverage"]


class ExponentialAverage(WeightAveraging):
    """Takes, when a fit ends, the exponential moving average of the weights after each step.

    After step n + 1 the average is d * average + (1 - d) * weights with d = min(decay, (1 + n) / (10 + n)), as in
    TensorFlow's ``ExponentialMovingAverage(num_updates=n)``. With a decay that is the same from the first step on, as
    Lightning's ``EMAWeightAveraging`` has it, the weights after step 1 keep a share of decay^n: of 70 steps at 0.99 the
    half. In phase "retrain" these are weights that were just pruned. Buffers, such as running statistics, are averaged
    too.

    Args:
        decay: The largest d, in [0, 1).

    Raises:
        ValueError: If ``decay`` is something else.
    """

    def __init__(self, decay: float = 0.99) -> None:
        if not (isinstance(decay, (int, float)) and 0 <= decay < 1):
            raise ValueError(f"decay is {decay!r}; allowed is a number from 0 to below 1")
        super().__init__(use_buffers=True, avg_fn=partial(_average, decay))


def _average(decay: float, average: Tensor, weights: Tensor, steps: Tensor) -> Tensor:
    share = ((1 + steps) / (10 + steps)).clamp(max=decay)
    return share * average + (1 - share) * weights
