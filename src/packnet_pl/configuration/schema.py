"""The schema of the configuration: its options, their types and defaults. Torch-free, for fast errors."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_type_hints

from omegaconf import MISSING

__all__ = ["TrainConfig", "phase_defaults", "schema_keys"]


@dataclass
class PhaseConfig:
    """Options of one phase of one task; what is null is as ``optim`` has it."""

    epochs: int = MISSING
    lr: float = MISSING
    schedule: bool = True
    label_smoothing: float | None = None
    mixup: float | None = None
    cutmix: float | None = None
    balance: str | None = None


@dataclass
class TaskConfig:
    """Options of one task."""

    data: dict[str, Any] = MISSING
    head: str = "new"
    train: PhaseConfig = MISSING
    retrain: PhaseConfig = MISSING


@dataclass
class SequenceConfig:
    """The tasks, and their order."""

    order: list[str] = MISSING
    tasks: dict[str, TaskConfig] = MISSING
    task: Any = None
    root: str | None = None
    add: Any = None
    finished: list[str] = field(default_factory=list)


@dataclass
class PruneConfig:
    """Options of pruning: ``ratio`` is a number or a list, ``rule`` follows from the other options."""

    ratio: Any = MISSING
    tolerance: float = 0.5
    trials: int = 5
    last: bool = MISSING
    scope: str = MISSING
    granularity: str = MISSING
    score: str = "magnitude"
    schedule: str = "oneshot"
    rule: dict[str, Any] = MISSING


@dataclass
class MethodConfig:
    """Which method trains a task."""

    name: str = MISSING
    pack: bool = MISSING
    together: bool = MISSING
    classifier: dict[str, Any] = MISSING
    fit: dict[str, Any] = MISSING


@dataclass
class FactorConfig:
    """Factors on a number that each phase of each task has of its own."""

    train: float = 1.0
    retrain: float = 1.0


@dataclass
class OptimConfig:
    """Options of optimization, the same for every phase; rates and epochs are the phases' own."""

    optimizer: dict[str, Any] = MISSING
    scheduler: dict[str, Any] | None = None
    later_lr: float = 1.0
    epochs: FactorConfig = field(default_factory=FactorConfig)
    lr: FactorConfig = field(default_factory=FactorConfig)
    batch_size: int = MISSING
    accumulate: int = MISSING
    gradient_clip: float | None = None
    num_workers: int = MISSING
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    balance: str = "none"
    distillation: float = 0.0
    temperature: float = 2.0


@dataclass
class TrainerConfig:
    """Devices, precision and strategy."""

    accelerator: str = MISSING
    devices: Any = MISSING
    num_nodes: int = MISSING
    strategy: str = MISSING
    precision: str = MISSING
    sync_batchnorm: bool = MISSING


@dataclass
class DebugConfig:
    """Smaller runs for trials."""

    fraction: float = MISSING
    max_epochs: int | None = None


@dataclass
class CheckpointConfig:
    """Options of checkpoints: how often they are saved, and where the first task's is shared."""

    every_n_steps: int | None = None
    shared: str | None = None


@dataclass
class SweepConfig:
    """Options of sweeps: what the jobs share, and what is optimized."""

    objective: Any = MISSING
    share: bool = MISSING


@dataclass
class TrainConfig:
    """The whole configuration of ``packnet-train``."""

    sequence: SequenceConfig = MISSING
    arch: dict[str, Any] = MISSING
    prune: PruneConfig = MISSING
    mask: dict[str, Any] | None = None
    method: MethodConfig = MISSING
    optim: OptimConfig = MISSING
    trainer: TrainerConfig = MISSING
    logger: dict[str, Any] | None = None
    callbacks: dict[str, Any] | None = None
    debug: DebugConfig = MISSING
    checkpoint: CheckpointConfig = MISSING
    sweep: SweepConfig = MISSING
    packed: str | None = None
    resume: Any = False
    changed_data: str = "refuse"
    prunable: str = "weights"
    which_task: str = "entropy"
    norm: str = MISSING
    bias: str = MISSING
    grow: float | None = None
    grow_below: float = 0.1
    seed: int = MISSING


def phase_defaults() -> list[str]:
    """Returns the options of a phase that have a default."""
    return [option.name for option in fields(PhaseConfig) if option.default != MISSING]


def schema_keys(form: type = TrainConfig, prefix: str = "") -> Iterator[str]:
    """Yields every key that the schema names, such as "prune.ratio"; below some there are more that it does not."""
    for name, kind in get_type_hints(form).items():
        yield f"{prefix}{name}"
        if is_dataclass(kind) and isinstance(kind, type):
            yield from schema_keys(kind, f"{prefix}{name}.")
