"""The settings of a method as results record them, and reports label runs by them."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from packnet_pl.configuration.task_settings import AUTO, LOSS_OPTIONS
from packnet_pl.data.drawn_augmentation import AFFINE, SPECAUGMENT
from packnet_pl.further_settings import OFF
from packnet_pl.old_settings import MAGNITUDE

__all__ = ["further_settings", "recorded_settings"]


def recorded_settings(config: DictConfig) -> dict[str, str | int | float | bool]:
    """Returns name -> value. What came after the paper is recorded only where it is on.

    Args:
        config: Checked.
    """
    kept = {key: config[key] for key in ("norm", "bias", "prunable")} if config.method.pack else {}
    return {**_of_method(config), **kept, "later_lr": config.optim.later_lr, **further_settings(config)}


def further_settings(config: DictConfig) -> dict[str, str | int | float | bool]:
    """Returns name -> value of what the paper does not have, as far as it is on.

    Args:
        config: Checked.
    """
    found = {**_of_pruning(config), **_of_sharing(config), **_of_fits(config), **_of_drawn_data(config)}
    return {name: value for name, value in found.items() if value != OFF[name]}


def _of_method(config: DictConfig) -> dict[str, Any]:
    """Returns the settings of the classifier, the pruning rule and the fit."""
    plain: Any = OmegaConf.to_container(config.method, resolve=True)
    return {
        key: value
        for part in (plain["classifier"], plain["fit"].get("rule") or {}, plain["fit"])
        for key, value in part.items()
        # "pack" is part of what the method is, and no setting of it.
        if not key.startswith("_")
        and key not in ("pack", "schedule")
        and isinstance(value, (str, int, float))
        # A second phase goes unsaid where there is none.
        and (key, value) != ("retrain", OFF["retrain"])
    }


def _of_pruning(config: DictConfig) -> dict[str, Any]:
    """Returns how a task is pruned, of which the paper has one way."""
    fit: Any = OmegaConf.to_container(config.method.fit, resolve=True)
    rule = fit.get("rule") or {}
    found = {"schedule": rule.get("schedule", OFF["schedule"])}
    if (score := rule.get("score", {}).get("_target_", MAGNITUDE)) != MAGNITUDE:
        found["score"] = score.rpartition(".")[2]
    return found


def _of_sharing(config: DictConfig) -> dict[str, Any]:
    """Returns how much of the network a task gets, and which of it it uses."""
    found = {"which_task": config.which_task}
    if config.prune.ratio == AUTO:
        found |= {"ratio": AUTO, "tolerance": config.prune.tolerance}
    if config.get("grow") is not None:
        found |= {key: config[key] for key in ("grow", "grow_below")}
    found["width"] = config.arch.get("width", OFF["width"])
    if config.mask:
        found |= {"mask": "learned", "mask_lr": config.mask.get("lr"), "mask_init": config.mask.get("init")}
    return found


def _of_fits(config: DictConfig) -> dict[str, Any]:
    """Returns how the fits are made, which are plain ones in the paper."""
    found = {f"{name}_{phase}": factor for name in ("epochs", "lr") for phase, factor in config.optim[name].items()}
    found |= {key: OFF[key] if (value := config.optim.get(key)) is None else value for key in LOSS_OPTIONS}
    if config.optim.distillation:
        found |= {key: config.optim[key] for key in ("distillation", "temperature")}
    if config.get("callbacks"):
        found["callbacks"] = ", ".join(_in_phase(name, callback) for name, callback in config.callbacks.items())
    return found


def _of_drawn_data(config: DictConfig) -> dict[str, Any]:
    """Returns which embedded tasks are augmented, and how; folders of images are, by default."""
    tasks = {name: OmegaConf.select(config.sequence.tasks, f"[{name}].data.augment") for name in config.sequence.order}
    found = [f"{name} {augment}" for name, augment in tasks.items() if augment in (AFFINE, SPECAUGMENT)]
    return {"augment": ", ".join(found)} if found else {}


def _in_phase(name: str, callback: Mapping[str, Any]) -> str:
    phase = callback.get("phase")
    return f"{name} ({phase})" if phase else name
