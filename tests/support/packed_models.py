"""Tiny networks with finished tasks, for the packed file."""

import torch
from torch import nn

from packnet_pl import LearnedMask, TaskClassifier
from packnet_pl.models import vgg_small

TINY = {"image_size": 8, "stages": ((4,), (6,)), "hidden": 8}
TASKS = {"latin": 3, "caltech 256 v1.5": 2, "кириллица": 4}


MASK = LearnedMask(lr=1.5)


def trained(packnet, head, steps=2):
    parameters = [*packnet.module.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-3)
    packnet.module.train()
    for _ in range(steps):
        optimizer.zero_grad()
        with packnet.masked():
            head(packnet.module(images())).square().sum().backward()
        packnet.mask_gradients_()
        optimizer.step()
        packnet.restore_()


class Tied(nn.Module):
    num_features = 8

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x[:, 0, 0]))


def packed_model(backbone=None, tasks=TASKS, method=TaskClassifier, mask=None, **kwargs):
    """A classifier with finished tasks; ``mask`` says how they learn which weights of earlier ones they use."""
    model = method(backbone or vgg_small(**TINY), **kwargs)
    for task, classes in tasks.items():
        model.add_task(
            task,
            num_classes=classes,
            class_names=[f"{task} {number}" for number in range(classes)],
            input_shape=(1, 8, 8),
            mean=(0.1,),
            std=(0.3,),
        )
        if model.packnet is not None:
            model.packnet.begin_task(task, private=model.private_modules(task))
            if mask is not None:
                model.packnet.learn_mask(mask)
            trained(model.packnet, model.heads[task])
            model.packnet.prune(0.5)
            trained(model.packnet, model.heads[task])
            model.packnet.finish_task()
    return model


def images(n=5):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def same_bits(left, right):
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    left, right = (tensor.detach().reshape(-1).contiguous().view(torch.uint8) for tensor in (left, right))
    return torch.equal(left, right)
