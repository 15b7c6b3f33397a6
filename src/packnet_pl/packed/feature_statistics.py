"""Statistics of a task's features: Gaussians that say how well an image fits the task."""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

__all__ = ["PARTS", "FeatureStatistics", "fit_statistics"]

MOST_DIRECTIONS = 64
_SHRINKAGE = 0.1
_LARGEST_HALF = 65504.0


@dataclass(frozen=True)
class FeatureStatistics:
    """A Gaussian per class with one covariance for all classes of a task (Lee et al. 2018, Equations 1 and 2).

    The covariance is that of probabilistic PCA (Tipping and Bishop 1999): a variance along each of a few directions,
    and one in every other direction.

    Attributes:
        means: float16 or float32, classes x features; of classes that had images.
        directions: Likewise, directions x features; orthonormal, but for rounding.
        variances: float32, directions + 1, above 0: along each of them, and in every other direction.
        scale: float32, 2: mean and standard deviation (above 0) of the log-likelihood of the task's own images.

    Raises:
        ValueError: If a variance or the deviation is not above 0.
    """

    means: Tensor
    directions: Tensor
    variances: Tensor
    scale: Tensor

    def __post_init__(self) -> None:
        if not bool((self.variances > 0).all() and self.scale[1] > 0):
            raise ValueError("statistics of features have a variance or deviation that is not above 0")

    def tensors(self) -> dict[str, Tensor]:
        """Returns the attributes by name."""
        return {part: getattr(self, part) for part in PARTS}

    def log_likelihood(self, features: Tensor) -> Tensor:
        """Returns the logarithm of the density of each feature vector, without its constant: all classes are as likely.

        Densities of one network's features can be compared from task to task.

        Args:
            features: N x features.

        Returns:
            float64, N.
        """
        rows, means, directions = features.double(), self.means.double(), self.directions.double()
        along, rest = self.variances[:-1].double(), self.variances[-1].double()
        # Woodbury's identity: what is along the directions is taken out, and put back with its own variance.
        gain = 1 / along - 1 / rest
        row, mean = rows @ directions.T, means @ directions.T
        crossed = (row**2 @ gain)[:, None] + (mean**2 @ gain)[None] - 2 * (row * gain) @ mean.T
        distances = torch.cdist(rows, means).square() / rest + crossed
        volume = along.log().sum() + (rows.shape[1] - len(along)) * rest.log()
        fits: Tensor = (-distances / 2).logsumexp(dim=1) - math.log(len(means)) - volume / 2
        return fits

    def scores(self, features: Tensor) -> Tensor:
        """Returns by how many standard deviations images fit better than the task's own on average do.

        Args:
            features: N x features.

        Returns:
            float64, N.
        """
        return (self.log_likelihood(features) - self.scale[0].double()) / self.scale[1].double()


PARTS = tuple(field.name for field in fields(FeatureStatistics))


def fit_statistics(features: Tensor, labels: Tensor, held_out: Tensor) -> FeatureStatistics:
    """Fits the Gaussians to a task's training images, and their scale to images that it was not trained on.

    A tenth of the covariance is that of a sphere (Friedman 1989, Equation 18): there may be fewer images than features.

    Args:
        features: Of training images, N x features.
        labels: int64, N: their classes.
        held_out: Features of validation images, M x features; without any, the training images' are taken.

    Raises:
        ValueError: If there is no image, or a feature is NaN or infinite.
    """
    rows, others = features.double(), (held_out if len(held_out) else features).double()
    if not len(rows) or not bool(rows.isfinite().all() and others.isfinite().all()):
        raise ValueError("statistics of features need images, and features that are finite")
    classes, labels = torch.unique(labels, return_inverse=True)
    sums = torch.zeros(len(classes), rows.shape[1], dtype=torch.float64).index_add_(0, labels, rows)
    means = sums / labels.bincount()[:, None]
    within = rows - means[labels]
    found, directions = torch.linalg.eigh(within.T @ within / len(rows))
    most = min(MOST_DIRECTIONS, rows.shape[1])
    along, rest = found[-most:], found[:-most].mean() if rows.shape[1] > most else found.mean()
    variances = (1 - _SHRINKAGE) * torch.cat([along, rest[None]]) + _SHRINKAGE * found.mean()
    # With one image per class nothing varies within a class; no variance may be zero.
    variances = variances.clamp(min=1e-6 * float(rows.var(dim=0, correction=0).mean()) + 1e-12)
    kept = FeatureStatistics(
        _short(means), _short(directions[:, -most:].T), variances.float(), torch.tensor([0.0, 1.0])
    )
    fits = kept.log_likelihood(others)
    deviation = fits.std(correction=0).clamp(min=1e-6 * (1 + float(fits.mean().abs())))
    return FeatureStatistics(kept.means, kept.directions, kept.variances, torch.stack([fits.mean(), deviation]).float())


def _short(values: Tensor) -> Tensor:
    """Returns ``values`` in float16, or in float32 if one is too large for it."""
    return values.to(torch.float16 if float(values.abs().max()) <= _LARGEST_HALF else torch.float32).contiguous()
