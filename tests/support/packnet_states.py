"""A PackNet at each point of a task's life, and what tests of it look at."""

import warnings

import pytest

from packnet_pl.core import PackNet
from tests.support.tiny import (
    TinyNet,
    pack,
    train,
)

OWN = {"norm": "per_task", "bias": "per_task"}


WITHOUT_WARNINGS = pytest.mark.filterwarnings("ignore:.*is a buffer that its layer changes")


def frozen_parameters(packnet):
    """The parameters that no further task changes."""
    slots = packnet.inventory().frozen.values() if packnet.tasks else ()
    return [slot.now for slot in slots if slot.is_parameter]


def fresh(**keeping):
    return PackNet(TinyNet(), **keeping)


def with_finished_task(**keeping):
    packnet = fresh(**keeping)
    pack(packnet, "cubs")
    return packnet


def with_open_task():
    packnet = with_finished_task()
    packnet.begin_task("cars")
    train(packnet)
    return packnet


def with_pruned_task():
    packnet = with_open_task()
    packnet.prune(0.5)
    train(packnet)
    return packnet


def full():
    packnet = with_finished_task()
    pack(packnet, "cars", ratio=None)
    return packnet


def told(call, *args, **kwargs):
    """The names of the buffers that are warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*args, **kwargs)
    assert all("is a buffer that its layer changes while a later task" in str(warning.message) for warning in caught)
    return [str(warning.message).split()[0] for warning in caught]


def wanted(net):
    return {name: parameter.requires_grad for name, parameter in net.named_parameters()}
