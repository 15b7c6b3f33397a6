"""Makes the plan of a run, plain objects, from its configuration: nothing after it knows configurations."""

from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from packnet_pl.choices import Phase
from packnet_pl.configuration.callbacks import build_callbacks
from packnet_pl.configuration.class_losses import loss_of, training_splits
from packnet_pl.configuration.components import Parts, trainer_settings
from packnet_pl.configuration.growth import growth_of
from packnet_pl.configuration.instantiate import build_target
from packnet_pl.configuration.logger_plan import logger_plan
from packnet_pl.configuration.packed_recipe import recipe_of
from packnet_pl.configuration.packed_source import input_of
from packnet_pl.configuration.pretrained_inputs import pretrained_inputs
from packnet_pl.configuration.recorded_settings import recorded_settings
from packnet_pl.configuration.task_settings import PhaseSettings
from packnet_pl.ranks import this_process
from packnet_pl.run import RunPlan, TaskPlan
from packnet_pl.run.process_environment import environment_of
from packnet_pl.training import Distillation, Recipe, batch_mixing

__all__ = ["build_plan"]


def build_plan(
    config: DictConfig, folder: Path, arch: str, parts: Parts, *, sequence_name: str | None = None
) -> RunPlan:
    """Returns the plan of the run.

    Args:
        config: Checked.
        folder: The run directory.
        arch: Name of the chosen backbone configuration.
        parts: From :func:`build_parts`.
        sequence_name: Of the chosen sequence.

    Raises:
        UsageError: If a part cannot be made.
    """
    tasks = []
    splits = training_splits(parts.tasks, parts.data, together=config.method.together)
    for number, task in enumerate(parts.tasks):
        later = number > 0 and not config.method.together
        recipes = {
            phase: _recipe(config, phase, settings, config.optim.later_lr if later else 1.0, *splits[task.name])
            for phase, settings in task.phases.items()
        }
        balanced = [phase for phase, settings in task.phases.items() if settings.balance == "sampler"]
        epochs = {phase: settings.epochs for phase, settings in task.phases.items()}
        ratio = None if task.finished else task.prune_ratio
        tasks.append(
            TaskPlan(task.name, parts.data[task.name], ratio, epochs, recipes, task.head, balanced, task.search)
        )
    plain: Any = OmegaConf.to_container(config)
    source = parts.packed if config.packed else None
    arguments = plain["arch"]
    inputs = input_of(source.header) if source else pretrained_inputs(arguments, arguments.get("image_size"))
    return RunPlan(
        folder=folder,
        tasks=tuple(tasks),
        method=config.method.name,
        settings=recorded_settings(config),
        together=config.method.together,
        packs=config.method.pack,
        fit=_fit(config),
        arch=arch,
        growth=growth_of(config),
        recipe=recipe_of(config, arch, inputs, sequence_name),
        seed=config.seed,
        batch_size=config.optim.batch_size,
        accumulate=config.optim.accumulate,
        every_n_steps=config.checkpoint.every_n_steps,
        num_workers=config.optim.num_workers,
        device=parts.device,
        trainer=trainer_settings(config),
        which_task=config.which_task,
        make_callbacks=partial(build_callbacks, config.get("callbacks")),
        loggers=logger_plan(config, folder, arch),
        environment=environment_of(this_process()),
    )


def _fit(config: DictConfig) -> Any:
    """Returns the method's fit; a task that uses all weights of earlier ones needs no word about it."""
    fit = build_target(config.method.fit, "method.fit")
    return partial(fit, mask=build_target(config.mask, "mask")) if config.mask else fit


def _recipe(
    config: DictConfig, phase: Phase, settings: PhaseSettings, factor: float, split: Any, num_classes: int
) -> Recipe:
    optimizer = build_target(config.optim.optimizer, "optim.optimizer")
    scheduled = config.optim.scheduler and settings.schedule
    scheduler = build_target(config.optim.scheduler, "optim.scheduler") if scheduled else None
    distils = phase == "retrain" and config.optim.distillation
    return Recipe(
        partial(optimizer, lr=settings.lr * factor),
        scheduler,
        loss_of(settings, split, num_classes),
        batch_mixing(num_classes, mixup=settings.mixup, cutmix=settings.cutmix),
        Distillation(config.optim.distillation, config.optim.temperature) if distils else None,
    )
