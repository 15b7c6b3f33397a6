"""From a checked configuration to plain objects: the last place that knows configurations."""

import inspect
import os
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra._internal.utils import _locate
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import seed_everything

from packnet_pl.cli.continuing import packed_source
from packnet_pl.cli.environments import environment_of
from packnet_pl.cli.forecast import epochs_of, forecast_shares, phase_settings, phases_of, ratios_of
from packnet_pl.cli.ranks import rank_of
from packnet_pl.cli.schema import UsageError, nearest
from packnet_pl.cli.sharing import SharedTraining, digest
from packnet_pl.core.norms import in_eval_mode
from packnet_pl.core.state import check_keeping, check_name
from packnet_pl.data import TaskData, derive_seed
from packnet_pl.models import HeadStart, head_values
from packnet_pl.packed import Packed, build_packed_backbone, packed_keeping, read_packed
from packnet_pl.run import RunPlan, StopRequest, TaskPlan
from packnet_pl.run.places import checkpoint_path, packed_path
from packnet_pl.training import Recipe, TaskClassifier

__all__ = [
    "Parts",
    "bind_targets",
    "build_data",
    "build_parts",
    "build_plan",
    "with_shared_training",
]


def bind_targets(node: Any, key: str = "") -> None:
    """Checks, without building anything, that each ``_target_`` exists and takes the arguments beside it.

    Args:
        node: A resolved configuration, as dicts and lists.
        key: Where it stands, for the message.

    Raises:
        UsageError: If a target does not exist, or an argument is unknown or missing.
    """
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else []
    for name, child in children:
        bind_targets(child, f"{key}.{name}" if key else str(name))
    if not isinstance(node, dict) or "_target_" not in node:
        return
    try:
        target = _locate(node["_target_"])
    except Exception as error:
        raise UsageError(f"{key}._target_ is {node['_target_']!r}, which cannot be imported: {error}") from error
    signature = inspect.signature(target)
    arguments = [name for name in node if not name.startswith("_")]
    known = [name for name, parameter in signature.parameters.items() if parameter.kind != parameter.VAR_KEYWORD]
    open_ended = len(known) < len(signature.parameters)
    for name in arguments:
        if name not in known and not open_ended:
            raise UsageError(f"{key}.{name}: {node['_target_']} has no such argument; {nearest(name, known)}")
    if not node.get("_partial_"):
        try:
            signature.bind(**{name: node[name] for name in arguments})
        except TypeError as error:
            raise UsageError(f"{key}: {node['_target_']}: {error}") from error


@dataclass(frozen=True)
class Parts:
    """What can be built, and go wrong, before a run has a directory.

    Attributes:
        data: Task -> its data, in order; None for a finished task whose data are not here.
        model: The network, without tasks.
        packed: What the run goes on from, or None.
        device: Where finished tasks are tested.
    """

    data: dict[str, TaskData | None]
    model: TaskClassifier
    packed: Packed | None
    device: str


def build_parts(config: DictConfig, folder: Path) -> Parts:
    """Builds the network, whose random weights follow from ``seed``, and the data.

    Args:
        config: Checked.
        folder: The run directory; with ``packed`` it may hold a packed file already.

    Raises:
        UsageError: If one of them, or a Trainer, cannot be made.
    """
    for name in config.sequence.order:
        try:
            check_name(name)
        except ValueError as error:
            raise UsageError(f"sequence.order: {error}") from error
    trainer = _trainer(config)
    _check_batches(config, trainer)
    packed = _packed(folder, config) if config.packed or config.resume else None
    model = _build_model(config, packed)
    parts = Parts(build_data(config), model, packed, str(trainer.strategy.root_device))
    for name, data in parts.data.items():
        if data is not None:
            _try_pictures(model, name, data)
        if data is not None and name not in config.sequence.finished:
            _try_head(model, name, _head(config, name), len(data.class_names))
    forecast_shares(config, parts.data, parts.model.packnet, parts.packed)
    return parts


def _packed(folder: Path, config: DictConfig) -> Packed | None:
    path = packed_source(folder, config)
    try:
        packed = read_packed(path) if path.is_file() else None
    except ValueError as error:
        if config.packed:
            raise UsageError(f"packed: {error}") from error
        return None  # the run says so, and goes on from its checkpoints
    if packed is not None and len(packed.history) != len(packed.tasks):
        raise UsageError(
            f"packed: {path} does not tell how well its tasks {packed.tasks} do, as the file of a run does; add tasks "
            "to it in a script of your own"
        )
    return packed


def _trainer(config: DictConfig) -> pl.Trainer:
    """Returns a Trainer such as the run will make; it starts nothing.

    Raises:
        UsageError: If there can be none, or the processes that were started are not those that it asks for.
    """
    rank = rank_of(os.environ)
    environment = environment_of(rank)
    try:
        trainer = pl.Trainer(
            **_trainer_settings(config),
            plugins=[environment],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        environment.validate_settings(num_devices=trainer.num_devices, num_nodes=trainer.num_nodes)
    except (MisconfigurationException, ValueError, TypeError) as error:
        said, settings = str(error).lower(), dict(config.trainer).items()
        by_key = [(key, value) for key, value in settings if re.search(rf"\b{key}\b", said)]
        by_value = [(key, value) for key, value in settings if str(value).lower() in said.split()]
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


def _build_model(config: DictConfig, packed: Packed | None) -> TaskClassifier:
    seed_everything(derive_seed(config.seed, "backbone"), verbose=False)
    norm, bias = check_keeping("norm", config.norm), check_keeping("bias", config.bias)
    if config.packed and packed is not None:
        # The file says what network it is; arch, norm and bias have nothing to say.
        norm, bias = packed_keeping(packed)
        try:
            backbone = build_packed_backbone(packed)
        except ValueError as error:
            raise UsageError(f"packed: {error}") from error
    else:
        backbone = _build(config.arch, "arch")
    make = _build(config.method.classifier, "method.classifier")
    try:
        model: TaskClassifier = make(backbone, norm=norm, bias=bias) if config.method.pack else make(backbone)
    except ValueError as error:
        raise UsageError(f"method={config.method.name} with arch: {error}") from error
    return model


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
            data = _build(config.sequence.tasks[name].data, f"sequence.tasks.{name}.data")
        except UsageError:
            if not finished:
                raise
            found[name] = None
            continue
        found[name] = data.take(config.debug.fraction)
    return found


def build_plan(config: DictConfig, folder: Path, arch: str, parts: Parts) -> RunPlan:
    """Returns what the run is to do.

    Args:
        config: Checked.
        folder: The run directory.
        arch: Name of the chosen backbone configuration.
        parts: From :func:`build_parts`.

    Raises:
        UsageError: If a part cannot be made.
    """
    tasks = []
    for number, (name, ratio) in enumerate(zip(config.sequence.order, ratios_of(config), strict=True)):
        if name in config.sequence.finished:
            tasks.append(TaskPlan(name, parts.data[name], None, {}, {}))
            continue
        settings = {phase: phase_settings(config, name, phase) for phase in phases_of(config, ratio)}
        factor = config.optim.later_lr if number and not config.method.together else 1.0
        tasks.append(
            TaskPlan(
                name=name,
                data=parts.data[name],
                prune_ratio=ratio if config.method.pack else None,
                epochs={phase: epochs_of(config, name, phase) for phase in settings},
                recipes={phase: _recipe(config, part, factor) for phase, part in settings.items()},
                head=_head(config, name),
            )
        )
    return RunPlan(
        folder=folder,
        tasks=tuple(tasks),
        method=config.method.name,
        settings=_settings(config),
        together=config.method.together,
        packs=config.method.pack,
        fit=_build(config.method.fit, "method.fit"),
        arch=arch,
        seed=config.seed,
        batch_size=config.optim.batch_size,
        accumulate=config.optim.accumulate,
        every_n_steps=config.checkpoint.every_n_steps,
        num_workers=config.optim.num_workers,
        device=parts.device,
        trainer=_trainer_settings(config),
        make_logger=partial(_make_logger, config.logger) if config.logger else None,
        environment=environment_of(rank_of(os.environ)),
    )


def _settings(config: DictConfig) -> dict[str, Any]:
    """Returns what the method was set to, as the report names it."""
    plain: Any = OmegaConf.to_container(config.method, resolve=True)
    found = {
        key: value
        for part in ("classifier", "fit")
        for key, value in plain[part].items()
        # "pack" is part of what the method is, and no setting of it.
        if not key.startswith("_") and key != "pack" and isinstance(value, (str, int, float))
    }
    kept = {"norm": config.norm, "bias": config.bias} if config.method.pack else {}
    return {**found, **kept, "later_lr": config.optim.later_lr}


def with_shared_training(plan: RunPlan, config: DictConfig, stop: StopRequest) -> RunPlan:
    """Returns the plan of a run that finds its first task trained in ``checkpoint.shared``, or leaves it there.

    Runs that do not prune the first task share nothing: others could differ from them in no other way.

    Args:
        plan: What to do.
        config: Checked.
        stop: Asked while another run is training it.
    """
    own = checkpoint_path(plan.folder, plan.tasks[0].name, "train")
    begun = own.exists() or packed_path(plan.folder).exists()
    if not config.checkpoint.shared or config.packed or begun:
        return plan
    epochs = plan.tasks[0].epochs
    if not epochs["train"] or "retrain" not in epochs:
        return plan
    plain: Any = OmegaConf.to_container(config)
    shared = SharedTraining(Path(config.checkpoint.shared), digest(plain))
    shared.adopt(own, stop.raise_if_asked)
    return replace(plan, trained=shared.publish)


def _try_pictures(model: TaskClassifier, task: str, data: TaskData) -> None:
    """Sends one empty picture through the backbone.

    Raises:
        UsageError: If it does not take pictures of this shape.
    """
    try:
        with torch.no_grad(), in_eval_mode(model.backbone.modules()):
            features = model.backbone(torch.zeros(1, *data.input_shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        channels, height, width = data.input_shape
        raise UsageError(
            f"arch does not take the pictures of task {task!r} ({channels} x {height} x {width}): give matching "
            f"arch.in_channels and arch.image_size ({str(error).splitlines()[0]})"
        ) from error
    if features.shape != (1, model.heads.num_features):
        raise UsageError(
            f"arch gives features of shape {tuple(features.shape)} for one picture of task {task!r}; "
            f"expected (1, {model.heads.num_features})"
        )


def _head(config: DictConfig, task: str) -> HeadStart:
    return "pretrained" if config.sequence.tasks[task].get("head") == "pretrained" else "new"


def _try_head(model: TaskClassifier, task: str, head: HeadStart, num_classes: int) -> None:
    try:
        head_values(head, model.backbone, num_classes)
    except ValueError as error:
        raise UsageError(f"sequence.tasks.{task}: {error}") from error


def _trainer_settings(config: DictConfig) -> dict[str, Any]:
    return {**config.trainer, "gradient_clip_val": config.optim.gradient_clip}


def _recipe(config: DictConfig, part: DictConfig, factor: float) -> Recipe:
    optimizer = _build(config.optim.optimizer, "optim.optimizer")
    scheduled = config.optim.scheduler and part.get("schedule", True)
    scheduler = _build(config.optim.scheduler, "optim.scheduler") if scheduled else None
    return Recipe(partial(optimizer, lr=part.lr * factor), scheduler)


def _make_logger(logger: DictConfig, folder: Path, phase: str) -> Any:
    return _build(logger, "logger")(save_dir=folder, name="logs", version=phase)


def _build(node: DictConfig, key: str) -> Any:
    """Instantiates ``node``; what the target says against its arguments is the user's to mend."""
    plain = OmegaConf.to_container(node, resolve=True)
    try:
        return instantiate(plain, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, (ValueError, TypeError, OSError)):
            raise UsageError(f"{key}: {error.__cause__}") from error.__cause__
        raise
