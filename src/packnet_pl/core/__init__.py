"""The method. Pure torch: no Lightning, no Hydra, no torchvision.

In the order of the paper's section 3:

- ``ownership``: one owner per weight, and the masks that follow from it. ``prunable``: which parameters have owners;
  ``inventory`` finds them in a module, ``unowned`` warns of the rest.
- ``pruning``, ``scores``, ``filters``: which of a task's weights are released. ``accumulators``: what scores of
  gradients add up; ``gradual``: how much is released when. ``directions``, ``rows``: where magnitude alone would do
  harm, under weight norm and in tables.
- ``freezing``: gradients masked before a step, values restored after it; ``frozen_entries``: those of one weight,
  ``compact_entries``: of a large one, ``pending``: of many small ones at once. ``step_proof``,
  ``unmoving_optimizers``: when nothing need be restored. ``versions``: what was replaced or written to.
  ``task_freezer``: what is frozen when. ``module_modes``: layers kept in eval mode.
- ``learned_mask``, ``open_mask``: which weights of earlier tasks a task uses; ``masked_weights`` shows it for a pass,
  ``packed_bits`` keeps it.
- ``finishing``: what is kept of a finished task. ``subnetwork``, ``narrow``: the module as an earlier task knew it.
  ``fingerprints``, ``verification``: that it is the same bits. ``growing``, ``widening``: a wider module in its place.
- ``shards``: tensors of which each process has rows; ``sharded_selection``, ``sharded_releases``: what is released
  then, ``sharded_masks``: what is not used, ``state_shards``, ``sharded_state``, ``sharded_reading``: its checkpoints,
  ``plain_shards``: that they are data, ``sharded_checks``: what is refused. ``units``: what is ranked.
- ``state``: what is known beside the weights, and each step of a task's life. ``state_dump``, ``state_format``: the
  same as plain data, written and parsed. ``shared_module``: state and module, kept in step. ``packnet``: the steps
  themselves.
"""

from packnet_pl.core.capacity import CapacityError
from packnet_pl.core.learned_mask import LearnedMask
from packnet_pl.core.packnet import PackNet
from packnet_pl.core.prunable import PrunableRule, Role, is_weight, role_of
from packnet_pl.core.pruning import PruneRule
from packnet_pl.core.scores import GradientScore, magnitude, movement, random, taylor
from packnet_pl.core.sharded_state import load_sharded_state, sharded_state_dict
from packnet_pl.core.summary import Summary
from packnet_pl.shares import Share

__all__ = [
    "CapacityError",
    "GradientScore",
    "LearnedMask",
    "PackNet",
    "PrunableRule",
    "PruneRule",
    "Role",
    "Share",
    "Summary",
    "is_weight",
    "load_sharded_state",
    "magnitude",
    "movement",
    "random",
    "role_of",
    "sharded_state_dict",
    "taylor",
]
