"""Settings of ``fully_shard``, and ways to train with it, that change when rows are gathered and where they lie."""

from functools import partial

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

from tests.support.promise.sharded_options import Masks
from tests.support.promise.sharded_run import Run, Transformer, images

HALF = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


class Accumulated(Run):
    """Each process adds up the gradients of two batches before they are reduced."""

    def loss_backward(self, task, x):
        for part, is_last in ((x[::2], False), (x[1::2], True)):
            self.net.set_requires_gradient_sync(is_last)
            super().loss_backward(task, part)


class AccumulatedMasks(Accumulated, Masks):
    pass


def mixed_precision():
    return Run(mp_policy=HALF).all_tasks()


def activation_checkpointing():
    return Run(partial(Transformer, checkpoints=True)).all_tasks()


def masks_computed_again():
    """They are shown when layers are computed again, for the backward pass."""
    return Masks(partial(Transformer, checkpoints=True), mp_policy=HALF).all_tasks()


def accumulated():
    return Accumulated().all_tasks()


def accumulated_masks():
    """Of gradients that are added up in another type than they are computed in."""
    return AccumulatedMasks(mp_policy=HALF).all_tasks()


def kept_gathered():
    return Masks(reshard_after_forward=False).all_tasks()


def cpu_offload():
    return Masks(offload_policy=CPUOffloadPolicy(pin_memory=False)).all_tasks()


class Columnwise(Run):
    """Tensor parallelism in which each process computes some outputs of each layer, for all images."""

    def divide(self, net):
        plan = dict.fromkeys(("0", "2", "4"), ColwiseParallel(output_layouts=Replicate()))
        return parallelize_module(net, init_device_mesh("cpu", (dist.get_world_size(),)), plan)

    def mine(self):
        return images()

    def loss_backward(self, task, x):
        super().loss_backward(task, x)
        weight = self.net[0].weight
        weight.grad = weight.grad.redistribute(placements=[Replicate()])  # as torch leaves some


def mlp():
    return nn.Sequential(nn.Linear(32, 7), nn.LayerNorm(7), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 2))


def columnwise():
    return Columnwise(mlp).all_tasks()
