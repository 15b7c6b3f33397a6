"""A vision transformer learns Latin letters, then dark Greek ones on light, and goes on reading Latin, to the bit.

python examples/vision_transformer.py                       # all its weights are divided among the tasks
python examples/vision_transformer.py --prunable paper      # attention's queries, keys and values are frozen

The letters are drawn from the fonts that come with matplotlib; those of test and validation are never trained with.
"""

import argparse
import logging
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

from packnet_pl import PackNet, PackNetCallback, PackNetMixin, fit_task
from packnet_pl.choices import Phase, Prunable
from packnet_pl.data import TaskData, glyphs

WIDTH, CLASSES = 64, 10


def first_letters(alphabet: TaskData) -> dict[str, TensorDataset]:
    """Returns split -> images (N x 1 x 24 x 24) and classes of the first ten letters."""
    found = {}
    for name, split in alphabet.splits.items():
        images, classes = split[:]
        found[name] = TensorDataset(images[classes < CLASSES], classes[classes < CLASSES])
    return found


def transformer() -> VisionTransformer:
    """Returns a small vision transformer of torchvision: features (N x 64) of images (N x 3 x 24 x 24)."""
    network = VisionTransformer(
        image_size=24,
        patch_size=6,
        num_layers=3,
        num_heads=4,
        hidden_dim=WIDTH,
        mlp_dim=2 * WIDTH,
        # Two convolutions see more in a patch than one: so small a network learns from few images.
        conv_stem_configs=[ConvStemConfig(16, kernel_size=3, stride=2), ConvStemConfig(32, kernel_size=3, stride=3)],
    )
    network.heads = nn.Identity()
    return network


class Classifier(PackNetMixin, pl.LightningModule):
    """The shared transformer, and a head per task."""

    def __init__(self, tasks: list[str], prunable: Prunable) -> None:
        super().__init__()
        self.backbone = transformer()
        self.heads = nn.ModuleDict({task: nn.Linear(WIDTH, CLASSES) for task in tasks})
        self.packnet = PackNet(self.backbone, prunable=prunable)
        self.task = tasks[0]

    def forward(self, images: Tensor) -> Tensor:
        """Returns the selected task's logits (N x 10) of grey images (N x 1 x 24 x 24)."""
        logits: Tensor = self.heads[self.task](self.backbone(images.expand(-1, 3, -1, -1)))
        return logits

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Returns the loss of a batch."""
        images, classes = batch
        return nn.functional.cross_entropy(self(images), classes)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns an optimizer of all parameters, and rates that rise and fall: what is frozen stays as it is."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3, weight_decay=0.05)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@torch.no_grad()
def predict(model: Classifier, task: str, data: TensorDataset) -> Tensor:
    """Returns the logits of a task, as the module is now."""
    model.task = task
    model.eval()
    logits: Tensor = model(data.tensors[0])
    model.train()
    return logits


def error(logits: Tensor, data: TensorDataset) -> float:
    """Returns the share of wrong classes, in %."""
    return 100 * float((logits.argmax(1) != data.tensors[1]).float().mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains both tasks, then asks both once more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prunable", default="weights", choices=["weights", "paper", "all"])
    parser.add_argument("--epochs", type=int, default=10, help="per task, and half as many after pruning")
    parser.add_argument("--ratio", type=float, default=0.5, help="share of its weights that a task gives up")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    torch.manual_seed(options.seed)

    tasks = {
        "latin": first_letters(glyphs("latin", train_per_class=200)),
        "greek": first_letters(glyphs("greek", train_per_class=200, inverted=True)),
    }
    model = Classifier(list(tasks), options.prunable)

    def make_trainer(phase: Phase, callback: PackNetCallback) -> pl.Trainer:
        return pl.Trainer(
            max_epochs=options.epochs if phase == "train" else (options.epochs + 1) // 2,
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    when_finished = {}
    for task, data in tasks.items():
        model.task = task
        train = DataLoader(data["train"], batch_size=64, shuffle=True)
        fit_task(model, train, task=task, prune_ratio=options.ratio, private=f"heads.{task}", make_trainer=make_trainer)
        when_finished[task] = predict(model, task, data["test"])

    print(model.packnet.summary())
    print(f"{'task':6}  val error, %  test error, %  logits as when finished")
    for task, data in tasks.items():
        with model.packnet.subnetwork(task):
            val, test = (predict(model, task, data[split]) for split in ("val", "test"))
        same = "yes" if torch.equal(test, when_finished[task]) else "NO"
        print(f"{task:6}  {error(val, data['val']):12.2f}  {error(test, data['test']):13.2f}  {same}")


if __name__ == "__main__":
    main()
