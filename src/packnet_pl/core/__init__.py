"""The method. Pure torch: no Lightning, no Hydra, no torchvision."""

from packnet_pl.core.capacity import CapacityError
from packnet_pl.core.packnet import PackNet
from packnet_pl.core.pruning import PruneRule
from packnet_pl.core.scores import magnitude
from packnet_pl.core.summary import Share, Summary

__all__ = ["CapacityError", "PackNet", "PruneRule", "Share", "Summary", "magnitude"]
