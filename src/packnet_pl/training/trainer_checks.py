"""Checks, before anything is changed, that a Trainer can train a task without breaking the promise."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelPruning
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy, Strategy
from pytorch_lightning.utilities import rank_zero_warn
from torch import nn

from packnet_pl.core import PackNet
from packnet_pl.core.slots import tensors_in
from packnet_pl.training.families import of_both, overrides
from packnet_pl.training.model_parallel import check_model_parallel
from packnet_pl.training.weight_averaging import check_averages_begin

__all__ = [
    "CONVERTING",
    "builds_later",
    "check_module",
    "check_precision",
    "check_strategy",
    "check_trainer",
    "expect_unused_parameters",
    "warn_of_lost_tasks",
]

CONVERTING = {"16-true": torch.float16, "bf16-true": torch.bfloat16, "64-true": torch.float64}
"""Precisions of a Trainer that convert a module, and the types that they convert it to."""


def check_trainer(trainer: pl.Trainer, kind: type[pl.Callback]) -> None:
    """Checks that a Trainer trains one task in one phase, and nothing in it undoes the work.

    Args:
        trainer: Of the fit.
        kind: The class of the callback that trains a task.

    Raises:
        ValueError: If there are several such callbacks, a ModelPruning, a strategy that cuts or copies parameters, or
            an average that begins too late.
    """
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    count = sum(isinstance(callback, kind) for callback in callbacks)
    if count > 1:
        raise ValueError(f"{count} {kind.__name__}s in one Trainer; a fit trains one task in one phase: keep one")
    for callback in callbacks:
        if isinstance(callback, of_both(ModelPruning)):
            raise ValueError(
                f"{type(callback).__name__} beside {kind.__name__}: it prunes the weights of all tasks alike; "
                f"leave it out, and give {kind.__name__} a prune_ratio"
            )
    check_strategy(trainer.strategy)
    if isinstance(trainer.strategy, of_both(ModelParallelStrategy)):
        check_model_parallel(trainer.strategy, callbacks)
    check_averages_begin(trainer)


def check_strategy(strategy: Strategy) -> None:
    """Checks that every process has all parameters, or rows of them, entry by entry, and keeps them after the fit.

    Raises:
        ValueError: For FSDP, DeepSpeed, and DDP that spawns or forks.
    """
    if isinstance(strategy, (*of_both(FSDPStrategy), *of_both(DeepSpeedStrategy))):
        raise ValueError(
            f"strategy {type(strategy).__name__} cuts parameters into shards or keeps copies of its own, so owners "
            "cannot be divided weight by weight; allowed are one device, strategy='ddp' and ModelParallelStrategy"
        )
    if isinstance(strategy, of_both(DDPStrategy)) and strategy._start_method != "popen":
        raise ValueError(
            f"this strategy starts its processes by {strategy._start_method!r}: they train copies of the module, and "
            "the process that called fit never sees the tasks that they finish; take strategy='ddp'"
        )


def builds_later(module: pl.LightningModule) -> bool:
    """Returns whether a module makes its PackNet, with its layers, in ``configure_model``, and has not yet."""
    return getattr(module, "packnet", None) is None and overrides(module, "configure_model")


def check_module(packnet: PackNet, root: nn.Module) -> None:
    """Checks that the module that PackNet packs is part of ``root``.

    Raises:
        ValueError: If it was replaced: PackNet would watch one network while another is trained.
    """
    if not any(module is packnet.module for module in root.modules()):
        raise ValueError(
            f"the {type(packnet.module).__name__} that packnet was made for is no part of {type(root).__name__} (any "
            "more): make PackNet after the module has its last form, and load weights into it instead of replacing it"
        )


def check_precision(precision: str, packnet: PackNet) -> None:
    """Checks that the Trainer leaves the type of the weights as it is, unless there is no task yet.

    Args:
        precision: The Trainer's, such as "32-true".
        packnet: Whose tasks were trained in some type.

    Raises:
        ValueError: If it would convert them.
    """
    wanted = CONVERTING.get(precision)
    tasks = [*packnet.tasks, *([packnet.open_task] if packnet.open_task else [])]
    if wanted is None or not tasks:
        return
    for name, parameter in packnet.module.named_parameters():
        if parameter.is_floating_point() and parameter.dtype != wanted:
            raise ValueError(
                f"precision={precision!r} would convert the weights of {tasks} from {parameter.dtype} ({name}) to "
                f"{wanted}, and change what they predict: keep the precision of the first task; mixed precision "
                "converts nothing"
            )


def expect_unused_parameters(trainer: pl.Trainer, module: nn.Module, used: set[int] | None) -> None:
    """Lets DDP expect parameters without gradient, where heads of later tasks have none.

    Args:
        trainer: Its strategy may be DDP, which has not wrapped the module yet.
        module: The whole module.
        used: Ids of the parameters that surely take part, or need no gradient; None if that is not known yet.
    """
    strategy: Any = trainer.strategy
    if not isinstance(strategy, of_both(DDPStrategy)) or strategy._ddp_kwargs.get("static_graph"):
        return
    if used is None or any(p.requires_grad and id(p) not in used for p in module.parameters()):
        strategy._ddp_kwargs.setdefault("find_unused_parameters", True)


def warn_of_lost_tasks(packnet: PackNet) -> None:
    """Warns if no task is known, but the weights look pruned: their owners may have been lost."""
    if packnet.tasks:
        return
    inventory = packnet.inventory()
    weights = tensors_in(inventory.owned).values()
    counts = torch.tensor([[int((weight == 0).sum()), weight.numel()] for weight in weights]).reshape(-1, 2)
    if inventory.processes is not None:
        counts = inventory.processes.sum(counts)
    # Some layers are zero as a whole when they are new.
    partly = [(n, size) for n, size in counts.tolist() if 0 < n < size]
    share = sum(n for n, _ in partly) / max(sum(size for _, size in partly), 1)
    if share > 0.05:
        rank_zero_warn(
            f"{share:.0%} of the weights of the shared {type(packnet.module).__name__} are exactly zero, and packnet "
            "knows no finished task: if tasks were trained in it, they will be lost in this fit. PackNetMixin keeps "
            "them in checkpoints; PackNet.from_checkpoint(module.backbone, path) reads them"
        )
