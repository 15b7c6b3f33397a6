"""The method. Pure torch: no Lightning, no Hydra, no torchvision."""

from packnet_pl.core.capacity import CapacityError
from packnet_pl.core.packnet import PackNet
from packnet_pl.core.state import Phase
from packnet_pl.core.summary import Share, Summary

__all__ = ["CapacityError", "PackNet", "Phase", "Share", "Summary"]
