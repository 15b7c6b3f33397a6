"""Sequential fine-tuning: the baseline that forgets."""

from packnet_pl.methods.unpruned import UnprunedClassifier

__all__ = ["FineTuning"]


class FineTuning(UnprunedClassifier):
    """Every task trains every weight, so that earlier tasks are forgotten.

    Args:
        backbone: As for :class:`MultiHeadClassifier`.
        num_features: As for :class:`MultiHeadClassifier`.
        recipes: As for :class:`MultiHeadClassifier`.
    """
