"""Run as a script, in a process where ``lightning`` is imported first: prints what came of each case, as JSON."""

import json
import logging
import sys
import warnings
from pathlib import Path

import lightning as L  # noqa: N812
import pytorch_lightning as pl
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelPruning, StochasticWeightAveraging
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.strategies import FSDPStrategy
from pytorch_lightning.cli import LightningCLI as OtherCLI
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from packnet_pl import PackNetCallback, PackNetMixin, TaskClassifier, fit_task
from packnet_pl.core import PackNet
from packnet_pl.training import AtomicCheckpointIO
from packnet_pl.training.trainer_checks import check_strategy

CONFIG = """
trainer:
  accelerator: cpu
  max_epochs: 1
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
  - class_path: packnet_pl.training.Reseed
    init_args: {seed: 1, task: a, phase: train}
  - class_path: packnet_pl.PackNetCallback
    init_args: {task: a, phase: train, private: heads.a}
  plugins:
  - class_path: packnet_pl.training.AtomicCheckpointIO
"""


def user_module(library):
    class Mine(PackNetMixin, library.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8)
            )
            self.heads = nn.ModuleDict({task: nn.Linear(8, 3) for task in "ab"})
            self.task = "a"
            self.packnet = PackNet(self.backbone)

        def forward(self, images):
            return self.heads[self.task](self.backbone(images))

        def training_step(self, batch, _):
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch, _):
            self.log("val_f1", 1.0 - self.current_epoch)

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    return Mine


def loader():
    return DataLoader(TensorDataset(torch.randn(16, 1, 6, 6), torch.arange(16) % 3), batch_size=8)


def user_data(library):
    class Data(library.LightningDataModule):
        def train_dataloader(self):
            return loader()

    return Data


def trainer(library, *callbacks, **settings):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return library.Trainer(accelerator="cpu", callbacks=list(callbacks), **{"max_epochs": 2, **quiet, **settings})


def fit(module, library, *callbacks, task="a", data=None, settings=None, **given):
    module.task = task
    return fit_task(
        module,
        data or loader(),
        task=task,
        prune_ratio=0.5,
        make_trainer=lambda _, callback: trainer(library, callback, *callbacks, **(settings or {})),
        **{"private": f"heads.{task}", **given},
    )


def said(action):
    """What an action raises, or the last it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            action()
        except Exception as error:
            return str(error)
    return [str(warning.message) for warning in caught if "packnet_pl" in warning.filename or "Task" in str(warning)][
        -1
    ]


def forgets_nothing(path):
    module, images = user_module(L)(), torch.randn(3, 1, 6, 6)
    fit(module, L, val_dataloaders=loader(), select="best", monitor="val_f1")

    def answer(of):
        of.eval()
        of.task = "a"
        with of.packnet.subnetwork("a"), torch.no_grad():
            return of(images)

    before = answer(module)
    settings = {"plugins": [AtomicCheckpointIO()], "enable_checkpointing": True, "default_root_dir": path}
    fit(module, L, task="b", settings=settings).save_checkpoint(path / "b.ckpt")
    loaded = type(module).load_from_checkpoint(path / "b.ckpt", weights_only=True)
    return (
        loaded.packnet.tasks if torch.equal(answer(module), before) and torch.equal(answer(loaded), before) else "lost"
    )


def from_yaml(cli, library, path):
    (path / "config.yaml").write_text(CONFIG)
    made = cli(
        user_module(library), user_data(library), save_config_callback=None, args=["fit", f"-c={path}/config.yaml"]
    )
    return made.model.packnet.tasks


def main(path):
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    mine, theirs = user_module(L), user_module(pl)
    classifier = TaskClassifier(nn.Sequential(nn.Flatten(), nn.Linear(36, 5)), num_features=5)
    classifier.add_task("a", num_classes=3)
    late = EMAWeightAveraging(update_starting_at_step=1000)
    return {
        "lightning": forgets_nothing(path),
        "lightning's command line": from_yaml(LightningCLI, L, path),
        "pytorch_lightning's command line": from_yaml(OtherCLI, pl, path),
        "average": said(lambda: fit(mine(), L, late)),
        "late average": said(lambda: fit(mine(), L, StochasticWeightAveraging(0.1, swa_epoch_start=9))),
        "best and average": said(
            lambda: fit(mine(), L, late, val_dataloaders=loader(), select="best", monitor="val_f1")
        ),
        "pruning": said(lambda: fit(mine(), L, ModelPruning("l1_unstructured"))),
        "strategy": said(lambda: check_strategy(object.__new__(FSDPStrategy))),
        "classifier": said(lambda: TaskClassifier(nn.Flatten(), num_features=36)),
        "its trainer": said(lambda: fit(classifier, L, private=None)),
        "module": said(lambda: fit(mine(), pl)),
        "other module": said(lambda: fit(theirs(), L)),
        "data": said(lambda: fit(mine(), L, data=user_data(pl)())),
        "no packnet": said(lambda: trainer(L, PackNetCallback(task="a", phase="train")).fit(_bare(mine), loader())),
    }


def _bare(cls):
    module = cls()
    del module.packnet
    return module


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))) + "\n")
