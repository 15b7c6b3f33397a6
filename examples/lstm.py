"""An LSTM learns to tell waves apart, then to count pulses, and goes on telling waves apart, to the bit.

python examples/lstm.py                       # the weights of the LSTM are divided among the tasks
python examples/lstm.py --prunable paper      # only those of linear layers are: the LSTM is frozen after the first task
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

LENGTH, WIDTH, CLASSES = 32, 64, 6


def waves(count: int) -> TensorDataset:
    """Returns noisy waves (N x 32 x 1): sine, triangle, square, rising and falling sawtooth, or nothing but noise."""
    kinds = torch.randint(CLASSES, (count,))
    cycles, start = 1.5 + 2 * torch.rand(count, 1), torch.rand(count, 1)
    phase = (start + cycles * torch.linspace(0, 1, LENGTH)) % 1
    sine, saw = torch.sin(2 * torch.pi * phase), 2 * phase - 1
    shapes = torch.stack([sine, 2 * saw.abs() - 1, sine.sign(), saw, -saw, torch.zeros_like(saw)])
    values = shapes[kinds, torch.arange(count)] + 0.3 * torch.randn(count, LENGTH)
    return TensorDataset(values.unsqueeze(2), kinds)


def pulses(count: int) -> TensorDataset:
    """Returns noise with zero to five pulses (N x 32 x 1); the class is how many there are."""
    numbers = torch.randint(CLASSES, (count,))
    ranks = torch.rand(count, LENGTH).argsort(dim=1)
    values = (ranks < numbers.unsqueeze(1)) + 0.2 * torch.randn(count, LENGTH)
    return TensorDataset(values.unsqueeze(2), numbers)


class Body(nn.Module):
    """What the tasks share: an LSTM, and a linear layer behind its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size=1, hidden_size=WIDTH, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, sequences: Tensor) -> Tensor:
        """Returns features (N x 64) of sequences (N x 32 x 1)."""
        outputs, _ = self.lstm(sequences)
        return torch.relu(self.linear(outputs[:, -1]))


class SequenceClassifier(PackNetMixin, pl.LightningModule):
    """The shared body, and a head per task."""

    def __init__(self, tasks: list[str], prunable: Prunable) -> None:
        super().__init__()
        self.backbone = Body()
        self.heads = nn.ModuleDict({task: nn.Linear(WIDTH, CLASSES) for task in tasks})
        self.packnet = PackNet(self.backbone, prunable=prunable)
        self.task = tasks[0]

    def forward(self, sequences: Tensor) -> Tensor:
        """Returns the logits (N x 6) of the selected task."""
        logits: Tensor = self.heads[self.task](self.backbone(sequences))
        return logits

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Returns the loss of a batch."""
        sequences, labels = batch
        return nn.functional.cross_entropy(self(sequences), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns an optimizer of all parameters: what is frozen stays as it is."""
        return torch.optim.AdamW(self.parameters(), lr=5e-3)


@torch.no_grad()
def predict(model: SequenceClassifier, task: str, data: TensorDataset) -> Tensor:
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
    parser.add_argument("--epochs", type=int, default=16, help="per task, and half as many after pruning")
    parser.add_argument("--ratio", type=float, default=0.5, help="share of its weights that a task gives up")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    torch.manual_seed(options.seed)

    tasks = {
        name: {split: make(count) for split, count in (("train", 3000), ("val", 1000), ("test", 2000))}
        for name, make in (("waves", waves), ("pulses", pulses))
    }
    model = SequenceClassifier(list(tasks), options.prunable)

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
