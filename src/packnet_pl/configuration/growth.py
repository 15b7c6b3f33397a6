"""Forecasts how a network grows: when too little is free, and what it is then."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from packnet_pl.errors import UsageError
from packnet_pl.models import build_backbone, wider_builder
from packnet_pl.models.skeleton import Weightless
from packnet_pl.run.growth import Growth

__all__ = ["Growing", "WiderNetwork", "growth_of"]


@dataclass(frozen=True)
class WiderNetwork:
    """What a network is after it has grown.

    Attributes:
        builder: Its name and arguments.
        parameters: Number of all parameters.
        weights: Name of each parameter that tasks divide -> number of its weights.
        num_features: Length of its feature vectors.
    """

    builder: Mapping[str, Any]
    parameters: int
    weights: Mapping[str, int]
    num_features: int


def growth_of(config: DictConfig) -> Growth | None:
    """Returns when the network of a run grows; None: never."""
    factor = config.get("grow")
    return None if factor is None else Growth(float(factor), float(config.get("grow_below", 0.0)))


class Growing:
    """The widths that a network will have.

    Args:
        growth: When it grows.
        backbone: As it is.
        weights: Name of each parameter that tasks divide -> number of its weights.

    Attributes:
        network: What the network is after it has grown the next time; once it has, that time.

    Raises:
        UsageError: If it cannot grow.
    """

    def __init__(self, growth: Growth, backbone: nn.Module, weights: Mapping[str, int]) -> None:
        self._growth, self._weights = growth, weights
        self.network = self._wider(getattr(backbone, "builder", None))
        self._has_grown = False

    def grow_if_due(self, free: int) -> list[int]:
        """Lets it grow if too little is free.

        Args:
            free: Number of free weights.

        Returns:
            How many weights come to each parameter, in their order; none where it does not grow.

        Raises:
            UsageError: If it cannot grow any more.
        """
        if not self._growth.is_due(free, sum(self._weights.values())):
            return []
        if self._has_grown:
            self.network = self._wider(self.network.builder)
        before, self._weights, self._has_grown = self._weights, self.network.weights, True
        return [self._weights[name] - count for name, count in before.items()]

    def _wider(self, builder: Mapping[str, Any] | None) -> WiderNetwork:
        factor = self._growth.factor
        try:
            wider = wider_builder(builder, factor)
            with Weightless(), torch.random.fork_rng(devices=[]):
                net: Any = build_backbone(wider)
        except ValueError as error:
            raise UsageError(f"grow is {factor:g}: {error}") from error
        sizes = {name: parameter.numel() for name, parameter in net.named_parameters()}
        weights = {name: sizes[name] for name in self._weights}
        if sum(weights.values()) <= sum(self._weights.values()):
            raise UsageError(
                f"grow is {factor:g}: rounded, no layer of {wider['name']} would be wider; give a larger factor"
            )
        return WiderNetwork(wider, sum(sizes.values()), weights, net.num_features)
