"""Rows of ``sharded_script`` as large networks have them: compiled loops at work, steps that prove what they moved."""

from contextlib import ExitStack
from functools import partial
from unittest import mock

import torch
from torch import optim
from torch.distributed.tensor.debug import CommDebugMode

from packnet_pl.core import freezing, loops
from tests.support.promise.sharded_options import OWN, Masks
from tests.support.promise.sharded_run import Run

__all__ = ["gathers_nothing", "large", "unmoved"]


def _all_are_large():
    return mock.patch.multiple(loops, MANY=0), mock.patch.multiple(freezing, LARGE=0)


def large():
    """Three tasks; most weights are left alone after most steps."""
    many, long = _all_are_large()
    with many, long:
        return Run(make_optimizer=partial(optim.SGD, lr=0.03, momentum=0.9)).all_tasks()


def unmoved():
    """A step that moves nothing frozen is not followed by writing; what else writes to a weight is noticed."""
    many, long = _all_are_large()
    with many, long:
        run = Run(make_optimizer=partial(optim.SGD, lr=0.03, momentum=0.9))
        run.begin("a")
        run.train("a")
        run.prune(0.6)
        run.finish("a")
        run.begin("b")
        optimizer, weight = run.make_optimizer(run.net.parameters()), run.net.embed.weight
        own = weight._local_tensor
        frozen = run.packnet.owners["embed.weight"]._local_tensor == 1
        before = own.detach()[frozen].clone()

        def written(write=None):
            run.net(torch.ones(2, 32)).square().mean().backward()
            run.packnet.mask_gradients_()
            optimizer.step()
            if write is not None:
                with torch.no_grad():
                    write()
            version = own._version
            run.packnet.restore_()
            optimizer.zero_grad()
            run.check("frozen weights are what they were", torch.equal(own.detach()[frozen], before))
            return own._version != version

        run.check("a step that moves nothing is not followed by writing", not any(written() for _ in range(3)))
        run.check("a write to the sharded weight is", written(lambda: weight.mul_(2.0)))
        run.check("a write to the rows of this process is", written(lambda: weight.to_local().add_(1.0)))
        run.check("and then, again, nothing", not written())
        return run.notes


def gathers_nothing():
    """Whatever is asked of PackNet, nothing but counts is sent."""
    run = Masks(of_packnet=OWN)
    sent = CommDebugMode()

    def told(action):
        with sent:
            found = action()
        gathered = {str(name) for name, count in sent.get_comm_counts().items() if count and "reduce" not in str(name)}
        run.check(f"nothing is gathered, but {sorted(gathered)} was", not gathered)
        return found

    for task in ("a", "b"):
        told(partial(run.begin, task))
        run.train(task)
        with ExitStack() as shown:
            told(partial(shown.enter_context, run.packnet.masked()))
        told(partial(run.packnet.prune, 0.5))
        told(run.packnet.finish_task)
        told(run.packnet.verify)
        told(run.packnet.state_dict)
        told(run.packnet.summary)
        told(lambda: run.packnet.unused)
        with run.packnet.subnetwork(task):
            pass
    return {name: holds for name, holds in run.notes.items() if not holds} or {"nothing is gathered": True}
