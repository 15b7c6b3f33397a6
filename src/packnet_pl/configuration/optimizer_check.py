"""Tries, before a run begins, whether the optimizer can train the network: on a few weights like its own."""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn

from packnet_pl.configuration.instantiate import build_target
from packnet_pl.errors import UsageError
from packnet_pl.training.trainer_checks import CONVERTING

__all__ = ["check_optimizer"]

_RATE = 1e-3


def check_optimizer(config: DictConfig, backbone: nn.Module, trainer: pl.Trainer) -> None:
    """Checks that the optimizer takes weights like those of the network, and one of torch's also a step.

    Args:
        config: Checked.
        backbone: With the weights; it is left as it is.
        trainer: Such as the run will make.

    Raises:
        UsageError: If it does not, or steps in a way that the Trainer's precision or clipping of gradients rules out.
    """
    make = build_target(config.optim.optimizer, "optim.optimizer")
    weights = _some_of_each_kind(backbone, trainer.strategy.root_device, CONVERTING.get(str(trainer.precision)))
    try:
        optimizer = make(weights, lr=_RATE)
        if type(optimizer).__module__.startswith("torch.optim"):  # an error in another's step is not the user's
            for weight in weights:
                weight.grad = torch.zeros_like(weight)
            optimizer.step(lambda: weights[0].new_zeros(()))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = str(error).strip().splitlines()
        raise UsageError(f"optim.optimizer: {reason[0] if reason else type(error).__name__}") from error
    plugin = trainer.precision_plugin
    if not isinstance(plugin, MixedPrecision):
        return
    name, precision = type(optimizer).__name__, config.trainer.precision
    if getattr(optimizer, "_step_supports_amp_scaling", False) and trainer.gradient_clip_val:
        raise UsageError(
            f"trainer.precision is {precision} and optim.optimizer a fused {name}: Lightning clips no gradients then, "
            f"and optim.gradient_clip is {trainer.gradient_clip_val}; give optim.gradient_clip=null, or leave fused out"
        )
    if plugin.scaler is not None and isinstance(optimizer, torch.optim.LBFGS):
        raise UsageError(
            f"trainer.precision is {precision}, whose gradients are scaled, and {name} takes none that are; give "
            "trainer.precision=bf16-mixed, or another optimizer"
        )


def _some_of_each_kind(module: nn.Module, device: torch.device, dtype: torch.dtype | None) -> Sequence[Tensor]:
    """Returns a copy of the smallest parameter of each number of dimensions, which some optimizers choose by."""
    smallest: dict[int, Tensor] = {}
    for parameter in module.parameters():
        if parameter.ndim not in smallest or parameter.numel() < smallest[parameter.ndim].numel():
            smallest[parameter.ndim] = parameter
    return [nn.Parameter(found.detach().to(device, dtype, copy=True)) for found in smallest.values()]
