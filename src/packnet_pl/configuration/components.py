"""Builds network, data and Trainer settings of a run, and tries what can fail, before it has a directory."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from pytorch_lightning import seed_everything

from packnet_pl.choices import HeadStart
from packnet_pl.configuration.callbacks import check_callbacks
from packnet_pl.configuration.class_losses import check_balance
from packnet_pl.configuration.forecast import Forecast, forecast_shares
from packnet_pl.configuration.growth import WiderNetwork
from packnet_pl.configuration.image_check import check_images, configured_shape
from packnet_pl.configuration.instantiate import build_target
from packnet_pl.configuration.optimizer_check import check_optimizer
from packnet_pl.configuration.resume_rules import packed_source
from packnet_pl.configuration.sharded_check import check_sharded_run
from packnet_pl.configuration.task_settings import TaskSettings
from packnet_pl.container import narrow_shapes
from packnet_pl.core import LearnedMask, PruneRule
from packnet_pl.data import TaskData, derive_seed
from packnet_pl.errors import UsageError
from packnet_pl.models import head_values
from packnet_pl.packed import Packed, build_packed_backbone, packed_keeping, read_packed
from packnet_pl.ranks import this_process
from packnet_pl.run.process_environment import environment_of
from packnet_pl.run.strategies import with_strategy
from packnet_pl.run.task_record import parse_history
from packnet_pl.text import as_line
from packnet_pl.training import MultiHeadClassifier
from packnet_pl.training.trainer_checks import CONVERTING

__all__ = ["Parts", "build_data", "build_parts", "trainer_settings"]


@dataclass(frozen=True)
class Parts:
    """The parts of a run that can be built, and can fail, before it has a directory.

    Attributes:
        tasks: Of the configuration, in order.
        data: Task -> its data, in order; None for a finished task whose data are not here.
        model: The network, without tasks.
        shares: Task that is not finished -> how many weights, or filters, it will own, and leave; empty if none does.
        grown: Task for which the network grows -> what it will be then.
        packed: What the run goes on from, or None.
        device: Where finished tasks are tested.
        precision: As Lightning calls it, such as "32-true".
        processes: How many train together.
    """

    tasks: tuple[TaskSettings, ...]
    data: dict[str, TaskData | None]
    model: MultiHeadClassifier
    shares: Mapping[str, tuple[int, int]]
    grown: Mapping[str, WiderNetwork]
    packed: Packed | None
    device: str
    precision: str
    processes: int


def build_parts(config: DictConfig, tasks: tuple[TaskSettings, ...], folder: Path) -> Parts:
    """Builds the network, whose random weights follow from ``seed``, and the data.

    Args:
        config: Checked.
        tasks: Of the configuration.
        folder: The run directory; with ``packed`` it may hold a packed file already.

    Raises:
        UsageError: If one of them, or a Trainer, cannot be made.
    """
    trainer = _trainer(config)
    _check_batches(config, trainer)
    packed = _packed(folder, config) if config.packed or config.resume else None
    model = _build_model(config, packed)
    check_sharded_run(config, trainer, model, packed)
    check_optimizer(config, model.backbone, trainer)
    check_callbacks(config, trainer.strategy.root_device.type)
    if packed is not None:
        _check_types(packed, str(trainer.precision))
    forecast = Forecast({}, {})
    if model.packnet is not None:
        rule = build_target(config.prune.rule, "prune.rule")
        if not isinstance(rule, PruneRule):
            raise UsageError(f"prune.rule is a {type(rule).__name__}; it takes a packnet_pl.core.PruneRule")
        _check_mask(config)
        forecast = forecast_shares(config, tasks, rule, model.packnet, packed)
    device, processes = str(trainer.strategy.root_device), trainer.num_devices * trainer.num_nodes
    source, tried = packed if config.packed else None, set()
    shapes = [(task.name, configured_shape(config, task.name)) for task in tasks if not task.finished]
    for name, shape in shapes:
        if shape is not None and shape not in tried:
            check_images(model.backbone, model.heads.num_features, name, shape, source)
            tried.add(shape)
    data = build_data(config)
    for task in tasks:
        images = data[task.name]
        if images is not None and images.input_shape not in tried:
            check_images(model.backbone, model.heads.num_features, task.name, images.input_shape, source)
            tried.add(images.input_shape)
        if images is not None and not task.finished:
            check_balance(task, images.train)
            _try_head(model, task.name, task.head, len(images.class_names))
    return Parts(tasks, data, model, forecast.shares, forecast.grown, packed, device, str(trainer.precision), processes)


def _packed(folder: Path, config: DictConfig) -> Packed | None:
    path = packed_source(folder, config)
    try:
        packed = read_packed(path) if path.is_file() else None
    except ValueError as error:
        if config.packed:
            raise UsageError(f"packed: {error}") from error
        return None  # the run says so, and goes on from its checkpoints
    lost = packed is not None and len(packed.history) != len(packed.tasks)
    if packed is not None and (lost or (config.packed and not _has_results(packed))):
        raise UsageError(
            f"packed: {path} does not tell how well its tasks {as_line(packed.tasks)} do, as the file of a run does; "
            "add tasks to it in a script of your own"
        )
    return packed


def _has_results(packed: Packed) -> bool:
    try:
        return [record.task.name for record in parse_history(packed.history)] == packed.tasks
    except ValueError:
        return False


def _check_types(packed: Packed, precision: str) -> None:
    wanted = CONVERTING.get(precision)
    for layer in packed.header["weights"].values():
        found = getattr(torch, layer["dtype"])
        if wanted not in (None, found):
            known = next((name for name, kind in CONVERTING.items() if kind == found), "32-true")
            raise UsageError(
                f"trainer.precision is {precision}, but the tasks of {packed.path} were trained in {layer['dtype']} "
                f"and would answer otherwise in {str(wanted).removeprefix('torch.')}: give trainer.precision={known}"
            )


def _trainer(config: DictConfig) -> pl.Trainer:
    """Returns a Trainer such as the run will make, to check its arguments; it starts nothing.

    Raises:
        UsageError: If there can be none, or the processes that were started are not those that it asks for.
    """
    rank = this_process()
    environment = environment_of(rank)
    try:
        trainer = pl.Trainer(
            **with_strategy(trainer_settings(config)),
            plugins=[environment],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        environment.validate_settings(num_devices=trainer.num_devices, num_nodes=trainer.num_nodes)
    except (MisconfigurationException, ValueError, TypeError) as error:
        message, settings = str(error).lower(), dict(config.trainer).items()
        by_key = [(key, value) for key, value in settings if re.search(rf"\b{key}\b", message)]
        by_value = [(key, value) for key, value in settings if str(value).lower() in message.split()]
        given = " ".join(f"trainer.{key}={value}" for key, value in by_key or by_value or settings)
        raise UsageError(f"{given}: {error}") from error
    if trainer.num_nodes > 1 and not rank.meets_others and rank.started_by != "lightning":
        raise UsageError(
            f"trainer.num_nodes is {trainer.num_nodes}, but this process was started alone: start it with torchrun or "
            "srun, or on each machine with MASTER_ADDR, MASTER_PORT and NODE_RANK set"
        )
    if config.trainer.sync_batchnorm and trainer.strategy.root_device.type == "cpu":
        raise UsageError("trainer.sync_batchnorm is true, but torch synchronizes batch-norm on GPUs only; leave it out")
    return trainer


def _check_batches(config: DictConfig, trainer: pl.Trainer) -> None:
    processes, accumulate = trainer.num_devices * trainer.num_nodes, config.optim.accumulate
    if config.optim.batch_size % (processes * accumulate):
        raise UsageError(
            f"optim.batch_size is {config.optim.batch_size}, for a whole step; with {processes} processes "
            f"(trainer.devices times trainer.num_nodes) and optim.accumulate={accumulate} it must be a multiple of "
            f"{processes * accumulate}"
        )


def _build_model(config: DictConfig, packed: Packed | None) -> MultiHeadClassifier:
    seed_everything(derive_seed(config.seed, "backbone"), verbose=False)
    kept: dict[str, Any] = {"norm": config.norm, "bias": config.bias, "prunable": config.prunable}
    if packed is not None and (config.packed or narrow_shapes(packed.header)):
        # The file says what network it is: arch, norm and bias have nothing to say, and prunable was taken from it. So
        # it does in the directory of a run whose network has grown.
        norm, bias = packed_keeping(packed)
        kept |= {"norm": norm, "bias": bias}
        try:
            backbone = build_packed_backbone(packed)
        except ValueError as error:
            raise UsageError(f"packed: {error}") from error
    else:
        backbone = build_target(config.arch, "arch")
    make = build_target(config.method.classifier, "method.classifier")
    try:
        model: MultiHeadClassifier = make(backbone, **kept) if config.method.pack else make(backbone)
    except ValueError as error:
        raise UsageError(f"method={config.method.name}: {error}") from error
    return model


def _check_mask(config: DictConfig) -> None:
    mask = build_target(config.mask, "mask") if config.mask else None
    if mask is not None and not isinstance(mask, LearnedMask):
        raise UsageError(f"mask is a {type(mask).__name__}; it takes a packnet_pl.core.LearnedMask")


def build_data(config: DictConfig) -> dict[str, TaskData | None]:
    """Returns the data of each task of the sequence, in order; None for a finished task whose data are not here.

    Raises:
        UsageError: If the data of another task cannot be made.
    """
    found: dict[str, TaskData | None] = {}
    for name in config.sequence.order:
        finished = name in config.sequence.finished
        if finished and name not in config.sequence.tasks:
            found[name] = None
            continue
        try:
            data = build_target(config.sequence.tasks[name].data, f"sequence.tasks.{name}.data")
        except UsageError:
            if not finished:
                raise
            found[name] = None
            continue
        found[name] = data.take(config.debug.fraction)
    return found


def trainer_settings(config: DictConfig) -> dict[str, Any]:
    """Returns the keyword arguments of every Trainer of the run."""
    return {**config.trainer, "gradient_clip_val": config.optim.gradient_clip}


def _try_head(model: MultiHeadClassifier, task: str, head: HeadStart, num_classes: int) -> None:
    try:
        head_values(head, model.backbone, num_classes)
    except ValueError as error:
        raise UsageError(f"sequence.tasks.{task}: {error}") from error
