"""Translates settings of earlier versions, in configurations, saved runs and recipes: targets, pruning, images."""

from collections.abc import Mapping
from typing import Any

__all__ = ["DRAWN_DATA", "MAGNITUDE", "MOVED", "PRUNING", "RULE", "score_target", "upgrade_settings", "usual_rule"]

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
"""``_target_`` as it was -> as it is. Whoever moves what a configuration can name, adds it here."""

MAGNITUDE = "packnet_pl.core.magnitude"
"""The score of the paper, and of all pruning before there were others."""

RULE = "packnet_pl.core.PruneRule"

_FIT_TASK = ("packnet_pl.fit_task", "packnet_pl.training.fit_task")
_CLASSIFIERS = ("packnet_pl.TaskClassifier", "packnet_pl.training.TaskClassifier")
"""Names of the class that, with ``pack=False``, was what FineTuning is."""

_IMAGES = ("packnet_pl.data.image_folder", "packnet_pl.data.published_images")


RETRAINING: dict[str, Any] = {
    "epochs": {"train": 1.0, "retrain": 1.0},
    "lr": {"train": 1.0, "retrain": 1.0},
    "distillation": 0.0,
    "temperature": 2.0,
}
"""What ``optim`` has, and had before there was a choice; a packed file leaves it out."""

_OPTIM = {
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "balance": "none",
    **RETRAINING,
}
"""All of that."""

PRUNING: dict[str, Any] = {"score": "magnitude", "schedule": "oneshot", "tolerance": 0.5, "trials": 5}
"""What ``prune`` has, and had before there was a choice."""

DRAWN_DATA: dict[str, Any] = {"augment": "none"}
"""What the data of an embedded task have, likewise; a packed file leaves it out."""

_ARGUMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "packnet_pl.methods.IndividualNetworks": ("start", {"retrain": False}),
    "packnet_pl.models.vgg_small": ("stages", {"width": 1.0}),
    "packnet_pl.data.glyphs": ("train_per_class", DRAWN_DATA),
    "packnet_pl.data.digits": ("num_train", DRAWN_DATA),
    "packnet_pl.data.spectro": ("train_per_class", DRAWN_DATA),
}
"""Arguments of a ``_target_``, likewise; behind one that is there wherever all are written out."""


def score_target(score: str) -> str:
    """Returns the ``_target_`` of one of this package's scores."""
    return f"packnet_pl.core.{score}"


def upgrade_settings(node: Any) -> Any:
    """Returns a configuration of an earlier version in the names and keys of this one.

    A ``_target_`` that moved is named by where it is now; pruning that was given by scope and granularity alone gets a
    rule of these, and is by magnitude and at once if nothing else was said; a loss, a factor or a second phase of which
    nothing was said is the plain one; images that were resized to 256 / 224 of their size, bilinear, whatever the
    weights, stay so.

    Args:
        node: Plain objects, with or without interpolations; it is left as it is.
    """
    if isinstance(node, list):
        return [upgrade_settings(child) for child in node]
    if not isinstance(node, dict):
        return node
    new = {key: upgrade_settings(child) for key, child in node.items()}
    target = node.get("_target_")
    if isinstance(target, str) and target in MOVED:
        new["_target_"] = MOVED[target]
    if "optimizer" in node and "batch_size" in node:
        new = {**new, **{key: usual for key, usual in _OPTIM.items() if key not in node}}
    if target in _CLASSIFIERS and isinstance(new.get("pack"), bool) and not new.pop("pack"):
        new["_target_"] = "packnet_pl.methods.FineTuning"
    written_out, usual_arguments = _ARGUMENTS.get(str(new.get("_target_")), ("", {}))
    if written_out in new:
        new |= {key: usual for key, usual in usual_arguments.items() if key not in new}
    if new.get("_target_") in _IMAGES and "image_size" in new and "interpolation" not in new:
        new["interpolation"] = "bilinear"
        if "resize" in new:
            new |= {"resize": 0.875 if new["resize"] is None else new["resize"], "squash": False}
    return _with_pruning(new)


def _with_pruning(new: dict[str, Any]) -> dict[str, Any]:
    """Returns settings of pruning, or those of a fit that repeat them, with all that there is a choice of now."""
    target = new.get("_target_")
    if target == RULE and "schedule" not in new:
        return {**new, "schedule": PRUNING["schedule"]}
    short: dict[str, Any] = {key: new[key] for key in ("scope", "granularity") if key in new}
    if short and "rule" not in new and target in _FIT_TASK:
        return {key: child for key, child in new.items() if key not in short} | {"rule": usual_rule(short)}
    if len(short) == 2 and "ratio" in new:
        return {**new, **{key: usual for key, usual in {**PRUNING, "rule": usual_rule(new)}.items() if key not in new}}
    return new


def usual_rule(prune: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the rule that follows from the other settings of pruning, as far as they are given."""
    given = {**PRUNING, **prune}
    short: dict[str, Any] = {key: given[key] for key in ("scope", "granularity", "schedule") if key in given}
    return {"_target_": RULE, "score": {"_target_": score_target(given["score"]), "_partial_": True}, **short}
