"""Classes and functions that moved: what ``_target_`` was before, in configurations and runs on users' disks."""

from typing import Any

__all__ = ["MOVED", "with_new_targets"]

_METHODS = {
    "classifier_only": "ClassifierOnly",
    "individual": "IndividualNetworks",
    "joint": "JointClassifier",
    "lwf": "LearningWithoutForgetting",
    "unpruned": "fit_unpruned",
}

MOVED = {
    **{f"packnet_pl.training.{name}": f"packnet_pl.methods.{name}" for name in _METHODS.values()},
    **{f"packnet_pl.training.{module}.{name}": f"packnet_pl.methods.{name}" for module, name in _METHODS.items()},
    "packnet_pl.data.TaskDataModule": "packnet_pl.training.TaskDataModule",
    "packnet_pl.data.published_pictures": "packnet_pl.data.published_images",
    "packnet_pl.data.published.published_pictures": "packnet_pl.data.published_images",
}
"""Where it was -> where it is. Whoever moves what a configuration can name, adds it here."""

_CLASSIFIERS = ("packnet_pl.TaskClassifier", "packnet_pl.training.TaskClassifier")
"""Names of the class that, with ``pack=False``, was what FineTuning is."""


def with_new_targets(node: Any) -> Any:
    """Returns a configuration in which each ``_target_`` that moved is named by where it is now.

    Args:
        node: Plain objects, with or without interpolations; it is left as it is.
    """
    if isinstance(node, list):
        return [with_new_targets(child) for child in node]
    if not isinstance(node, dict):
        return node
    renamed = {key: with_new_targets(child) for key, child in node.items()}
    target = node.get("_target_")
    if isinstance(target, str) and target in MOVED:
        renamed["_target_"] = MOVED[target]
    if target in _CLASSIFIERS and isinstance(renamed.get("pack"), bool) and not renamed.pop("pack"):
        renamed["_target_"] = "packnet_pl.methods.FineTuning"
    return renamed
