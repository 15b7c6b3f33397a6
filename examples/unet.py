"""A U-Net learns to segment disks and squares, then stripes, and goes on segmenting disks and squares, to the bit.

python examples/unet.py                       # all its weights are divided among the tasks
python examples/unet.py --prunable paper      # the same: they are weights of convolutions
"""

import argparse
import logging
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from packnet_pl import PackNet, PackNetCallback, PackNetMixin, fit_task
from packnet_pl.choices import Phase, Prunable

SIZE, WIDTH, CLASSES = 32, 8, 3


def shapes(count: int) -> TensorDataset:
    """Returns noisy images (N x 1 x 32 x 32) of a disk and a square, and of each pixel: background, disk or square."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    labels = torch.zeros(count, SIZE, SIZE, dtype=torch.long)
    for kind in (1, 2):
        radius = 4 + 5 * torch.rand(count, 1, 1)
        top, left = SIZE * torch.rand(2, count, 1, 1)
        distances = torch.stack([y - top, x - left]).abs()
        distance = distances.norm(dim=0) if kind == 1 else distances.amax(dim=0)
        labels[distance < radius] = kind
    # Both are equally bright: what tells them apart is their shape.
    brightness = 0.5 + torch.rand(count, 1, 1)
    images = brightness * (labels > 0) + 0.3 * torch.randn(count, SIZE, SIZE)
    return TensorDataset(images.unsqueeze(1), labels)


def stripes(count: int) -> TensorDataset:
    """Returns noisy images (N x 1 x 32 x 32) of three regions, and of each pixel how its region is striped."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    centre_y, centre_x = SIZE * torch.rand(2, count, CLASSES, 1, 1)
    labels = ((y - centre_y) ** 2 + (x - centre_x) ** 2).argmin(dim=1)
    width, start = 1.5 + 2 * torch.rand(count, 1, 1), 2 * torch.pi * torch.rand(count, 1, 1)
    patterns = torch.stack([torch.sin(torch.pi * along / width + start) for along in (y, x, (x + y) / 2**0.5)], dim=1)
    images = patterns.gather(1, labels.unsqueeze(1)) + 0.5 * torch.randn(count, 1, SIZE, SIZE)
    return TensorDataset(images, labels)


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Returns two convolutions, each with a batch norm."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Down twice, up twice, and across: what was seen before each step down is seen again after the step up."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.middle, self.coarse = block(1, WIDTH), block(WIDTH, 2 * WIDTH), block(2 * WIDTH, 4 * WIDTH)
        self.up_to_middle = nn.ConvTranspose2d(4 * WIDTH, 2 * WIDTH, 2, stride=2)
        self.up_to_fine = nn.ConvTranspose2d(2 * WIDTH, WIDTH, 2, stride=2)
        self.middle_again, self.fine_again = block(4 * WIDTH, 2 * WIDTH), block(2 * WIDTH, WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        """Returns features of each pixel (N x 8 x H x W); height and width are multiples of 4."""
        fine = self.fine(images)
        middle = self.middle(nn.functional.max_pool2d(fine, 2))
        coarse = self.coarse(nn.functional.max_pool2d(middle, 2))
        middle = self.middle_again(torch.cat([middle, self.up_to_middle(coarse)], dim=1))
        features: Tensor = self.fine_again(torch.cat([fine, self.up_to_fine(middle)], dim=1))
        return features


class Segmenter(PackNetMixin, pl.LightningModule):
    """The shared U-Net, and a 1 x 1 convolution per task."""

    def __init__(self, tasks: list[str], prunable: Prunable) -> None:
        super().__init__()
        self.backbone = UNet()
        self.heads = nn.ModuleDict({task: nn.Conv2d(WIDTH, CLASSES, 1) for task in tasks})
        self.packnet = PackNet(self.backbone, prunable=prunable)
        self.task = tasks[0]

    def forward(self, images: Tensor) -> Tensor:
        """Returns the selected task's logits of each pixel (N x 3 x H x W)."""
        logits: Tensor = self.heads[self.task](self.backbone(images))
        return logits

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Returns the mean loss of the pixels."""
        images, labels = batch
        return nn.functional.cross_entropy(self(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns an optimizer of all parameters: what is frozen stays as it is."""
        return torch.optim.AdamW(self.parameters(), lr=5e-3)


@torch.no_grad()
def predict(model: Segmenter, task: str, data: TensorDataset) -> Tensor:
    """Returns the logits of a task, as the module is now."""
    model.task = task
    model.eval()
    logits: Tensor = model(data.tensors[0])
    model.train()
    return logits


def error(logits: Tensor, data: TensorDataset) -> float:
    """Returns the share of pixels that are given the wrong class, in %."""
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
        name: {split: make(count) for split, count in (("train", 300), ("val", 100), ("test", 200))}
        for name, make in (("shapes", shapes), ("stripes", stripes))
    }
    model = Segmenter(list(tasks), options.prunable)

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
        train = DataLoader(data["train"], batch_size=20, shuffle=True)
        fit_task(model, train, task=task, prune_ratio=options.ratio, private=f"heads.{task}", make_trainer=make_trainer)
        when_finished[task] = predict(model, task, data["test"])

    print(model.packnet.summary())
    print(f"{'task':7}  val error, %  test error, %  logits as when finished")
    for task, data in tasks.items():
        with model.packnet.subnetwork(task):
            val, test = (predict(model, task, data[split]) for split in ("val", "test"))
        same = "yes" if torch.equal(test, when_finished[task]) else "NO"
        print(f"{task:7}  {error(val, data['val']):12.2f}  {error(test, data['test']):13.2f}  {same}")


if __name__ == "__main__":
    main()
