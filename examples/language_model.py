"""A small GPT-2 learns to continue Python's manual, then Python's code, and goes on writing the manual, to the bit.

python examples/language_model.py                       # the weights of its blocks are divided among the tasks
python examples/language_model.py --prunable paper      # refused: GPT-2 has neither convolutions nor linear layers

Both texts come with Python: the topics of help(), and the source of two modules. Tokens are characters.
"""

import argparse
import importlib
import inspect
import logging
from collections.abc import Sequence
from pydoc_data.topics import topics

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import GPT2Config, GPT2Model

from packnet_pl import PackNet, PackNetCallback, PackNetMixin, fit_task
from packnet_pl.choices import Phase, Prunable

LENGTH, WIDTH, CHARACTERS = 64, 64, 128
MODULES = ("argparse", "typing")


def manual() -> str:
    """Returns the topics of Python's help()."""
    return "\n".join(topics[name] for name in sorted(topics))


def code() -> str:
    """Returns the code of two modules of the standard library."""
    return "\n".join(inspect.getsource(importlib.import_module(name)) for name in MODULES)


def passages(text: str) -> dict[str, TensorDataset]:
    """Returns split -> passages of 65 characters (int64, N x 65), from the begin of a text, behind it, behind that."""
    tokens = torch.tensor(list(text[:200_000].encode("ascii", "replace")))
    rows = tokens[: len(tokens) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)
    tenth = len(rows) // 10
    parts = {"train": rows[: -2 * tenth], "val": rows[-2 * tenth : -tenth], "test": rows[-tenth:]}
    return {split: TensorDataset(part) for split, part in parts.items()}


class LanguageModel(PackNetMixin, pl.LightningModule):
    """A shared GPT-2 with random weights, and an output layer per task."""

    def __init__(self, tasks: list[str], prunable: Prunable) -> None:
        super().__init__()
        self.backbone = GPT2Model(
            GPT2Config(
                vocab_size=CHARACTERS,
                n_positions=LENGTH,
                n_embd=WIDTH,
                n_layer=2,
                n_head=4,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                use_cache=False,
                bos_token_id=None,
                eos_token_id=None,
            )
        )
        self.heads = nn.ModuleDict({task: nn.Linear(WIDTH, CHARACTERS) for task in tasks})
        self.packnet = PackNet(self.backbone, prunable=prunable)
        self.task = tasks[0]

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the selected task's logits of each next character (N x 64 x 128), given those before (N x 64)."""
        logits: Tensor = self.heads[self.task](self.backbone(tokens).last_hidden_state)
        return logits

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Returns the mean loss of the characters."""
        (passages,) = batch
        return loss(self(passages[:, :-1]), passages)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns an optimizer of all parameters: what is frozen stays as it is."""
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def loss(logits: Tensor, passages: Tensor) -> Tensor:
    """Returns the mean cross-entropy of all characters but the first of each passage."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), passages[:, 1:].flatten())


@torch.no_grad()
def predict(model: LanguageModel, task: str, data: TensorDataset) -> Tensor:
    """Returns the logits of a task, as the module is now."""
    model.task = task
    model.eval()
    logits: Tensor = model(data.tensors[0][:, :-1])
    model.train()
    return logits


def perplexity(logits: Tensor, data: TensorDataset) -> float:
    """Returns the perplexity per character."""
    return float(loss(logits, data.tensors[0]).exp())


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains both tasks, then asks both once more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prunable", default="weights", choices=["weights", "paper", "all"])
    parser.add_argument("--epochs", type=int, default=2, help="per task, and half as many after pruning")
    parser.add_argument("--ratio", type=float, default=0.5, help="share of its weights that a task gives up")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    torch.manual_seed(options.seed)

    tasks = {"manual": passages(manual()), "code": passages(code())}
    model = LanguageModel(list(tasks), options.prunable)

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
        train = DataLoader(data["train"], batch_size=16, shuffle=True)
        fit_task(model, train, task=task, prune_ratio=options.ratio, private=f"heads.{task}", make_trainer=make_trainer)
        when_finished[task] = predict(model, task, data["test"])

    print(model.packnet.summary())
    print(f"{'task':6}  val perplexity  test perplexity  logits as when finished")
    for task, data in tasks.items():
        with model.packnet.subnetwork(task):
            val, test = (predict(model, task, data[split]) for split in ("val", "test"))
        same = "yes" if torch.equal(test, when_finished[task]) else "NO"
        print(f"{task:6}  {perplexity(val, data['val']):14.2f}  {perplexity(test, data['test']):15.2f}  {same}")


if __name__ == "__main__":
    main()
