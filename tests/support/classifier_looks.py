"""How a TaskClassifier is looked at: its modes, and its live network."""

import torch

from packnet_pl import TaskClassifier, fit_task
from tests.support.fits import (
    RECIPES,
    SmallNet,
    images,
    loader,
    quiet,
)


def modes(model):
    return {name: layer.training for name, layer in model.named_modules()}


def live(model, task, x):
    """Logits of the network as it is, in eval mode, without anything that is tested here."""
    before = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    with torch.no_grad():
        logits = model.heads[task](model.backbone(x))
    for layer, mode in before:
        layer.training = mode
    return logits


def fitted_with_logits(*tasks, **kept):
    """A classifier in which ``tasks`` were fitted, and what each answered right before it was finished."""
    model, settled = TaskClassifier(SmallNet(), recipes=RECIPES, **kept), {}
    for number, task in enumerate(tasks):
        model.add_task(task, num_classes=3)
        fit_task(
            model,
            loader(number),
            task=task,
            prune_ratio=0.5,
            make_trainer=lambda _, callback: quiet(callback),
            settled=lambda m, task=task: settled.__setitem__(task, live(m, task, images())),
        )
    return model, settled


def saved(model, folder):
    quiet_trainer = quiet()
    quiet_trainer.strategy.connect(model)
    quiet_trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"
