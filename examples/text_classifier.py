"""A transformer learns what a dictionary defines, then which module a line of code is from, and unlearns no definition.

python examples/text_classifier.py                       # the weights of attention and linear layers are divided
python examples/text_classifier.py --prunable paper      # attention's queries, keys and values are frozen
python examples/text_classifier.py --prunable all        # the table of words is divided, too

Definitions come with timm (those of the 22,000 classes of ImageNet), code with Python. Tokens are words.
"""

import argparse
import importlib
import inspect
import logging
import re
import zlib
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from packnet_pl import PackNet, PackNetCallback, PackNetMixin, fit_task
from packnet_pl.choices import Phase, Prunable

LENGTH, WIDTH, WORDS, CLASSES = 16, 64, 4096, 5
# WordNet numbers its nouns kind by kind: these are the numbers that a kind lies between.
KINDS = {
    "animal": ("n0131", "n02665"),
    "artifact": ("n02666", "n0461"),
    "food": ("n0755", "n0793"),
    "person": ("n0961", "n1080"),
    "plant": ("n1154", "n1320"),
}
MODULES = ("argparse", "tarfile", "turtle", "typing", "_pydecimal")


def definitions() -> list[list[str]]:
    """Returns definitions of animals, artifacts, foods, persons and plants."""
    info = ImageNetInfo("imagenet-22k")
    names: list[str] = info.label_names()  # type: ignore[no-untyped-call]
    kinds = [[name for name in names if first < name < last] for first, last in KINDS.values()]
    return [
        [info.label_name_to_description(name, detailed=True).rpartition(": ")[2] for name in kind] for kind in kinds
    ]


def lines() -> list[list[str]]:
    """Returns the longer lines of five modules of the standard library, no two of a module alike."""
    sources = [inspect.getsource(importlib.import_module(name)) for name in MODULES]
    return [[line for line in dict.fromkeys(source.splitlines()) if len(line.split()) > 3] for source in sources]


def numbers(text: str) -> list[int]:
    """Returns the first 16 words of a text as numbers from 1; 0 where there is none."""
    words = [zlib.crc32(word.encode()) % (WORDS - 1) + 1 for word in re.findall(r"\w+|[^\w\s]", text)[:LENGTH]]
    return words + [0] * (LENGTH - len(words))


def splits(classes: list[list[str]]) -> dict[str, TensorDataset]:
    """Returns split -> words (int64, N x 16) and class of each text; texts are drawn at random."""
    found = {}
    shuffled = [[texts[index] for index in torch.randperm(len(texts))] for texts in classes]
    for split, first, last in (("train", 0, 400), ("val", 400, 480), ("test", 480, 640)):
        rows = torch.tensor([[numbers(text) for text in texts[first:last]] for texts in shuffled])
        labels = torch.arange(CLASSES).repeat_interleave(last - first)
        found[split] = TensorDataset(rows.flatten(0, 1), labels)
    return found


class Encoder(nn.Module):
    """What the tasks share: a table of words, one of positions, and a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH, padding_idx=0)
        self.positions = nn.Embedding(LENGTH, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, nhead=4, dim_feedforward=128, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)

    def forward(self, words: Tensor) -> Tensor:
        """Returns features (N x 64) of texts (N x 16): the mean over their words."""
        is_word = (words > 0).unsqueeze(2)
        features = self.transformer(self.words(words) + self.positions.weight, src_key_padding_mask=words == 0)
        means: Tensor = (features * is_word).sum(dim=1) / is_word.sum(dim=1)
        return means


class TextClassifier(PackNetMixin, pl.LightningModule):
    """The shared encoder, and a head per task."""

    def __init__(self, tasks: list[str], prunable: Prunable) -> None:
        super().__init__()
        self.backbone = Encoder()
        self.heads = nn.ModuleDict({task: nn.Linear(WIDTH, CLASSES) for task in tasks})
        self.packnet = PackNet(self.backbone, prunable=prunable)
        self.task = tasks[0]

    def forward(self, words: Tensor) -> Tensor:
        """Returns the logits (N x 5) of the selected task."""
        logits: Tensor = self.heads[self.task](self.backbone(words))
        return logits

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Returns the loss of a batch."""
        words, labels = batch
        return nn.functional.cross_entropy(self(words), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns an optimizer of all parameters: what is frozen stays as it is."""
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


@torch.no_grad()
def predict(model: TextClassifier, task: str, data: TensorDataset) -> Tensor:
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
    parser.add_argument("--epochs", type=int, default=8, help="per task, and half as many after pruning")
    parser.add_argument("--ratio", type=float, default=0.75, help="share of its weights that a task gives up")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    torch.manual_seed(options.seed)

    tasks = {"definitions": splits(definitions()), "lines": splits(lines())}
    model = TextClassifier(list(tasks), options.prunable)

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
    print(f"{'task':11}  val error, %  test error, %  logits as when finished")
    for task, data in tasks.items():
        with model.packnet.subnetwork(task):
            val, test = (predict(model, task, data[split]) for split in ("val", "test"))
        same = "yes" if torch.equal(test, when_finished[task]) else "NO"
        print(f"{task:11}  {error(val, data['val']):12.2f}  {error(test, data['test']):13.2f}  {same}")


if __name__ == "__main__":
    main()
