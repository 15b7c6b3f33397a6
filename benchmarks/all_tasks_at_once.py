"""How often a network that learns all tasks at once knows an image's: python benchmarks/all_tasks_at_once.py SEED.

An upper estimate for ``packnet-predict --task auto``, whose tasks come one after the other: one network of the
default size sees the training images of the default sequence's four tasks together, all classes equally often.
"""

import sys

import torch
from torch.nn.functional import cross_entropy

from packnet_pl.data import TaskData, digits, glyphs
from packnet_pl.models import vgg_small

EPOCHS, BATCH = 12, 64
MEAN, STD = 0.35, 0.25


def pixels(data: TaskData, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns images and labels of a split, all tasks normalised alike."""
    images, labels = getattr(data, split).tensors
    return (images * data.std[0] + data.mean[0] - MEAN) / STD, labels


def main() -> None:
    """Prints the share of right tasks on the validation and test splits."""
    torch.manual_seed(int(sys.argv[1]))
    counts = {"latin": 160, "greek": 40, "cyrillic": 40}
    tasks = {name: glyphs(name, train_per_class=count) for name, count in counts.items()} | {"digits": digits()}
    ends = torch.tensor([len(data.class_names) for data in tasks.values()]).cumsum(0).tolist()
    begins = [0, *ends[:-1]]
    found = [pixels(data, "train") for data in tasks.values()]
    images = torch.cat([of_task for of_task, _ in found])
    labels = torch.cat([of_task + begin for (_, of_task), begin in zip(found, begins, strict=True)])
    network, head = vgg_small(), torch.nn.Linear(128, ends[-1])
    steps = len(images) // BATCH
    optimizer = torch.optim.SGD(
        [*network.parameters(), *head.parameters()], lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=EPOCHS * steps)
    weights = 1 / torch.bincount(labels).double()[labels]
    for _ in range(EPOCHS):
        drawn = torch.multinomial(weights, len(images), replacement=True)
        for batch in drawn[: steps * BATCH].reshape(steps, BATCH):
            loss = cross_entropy(head(network(images[batch])), labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    network.eval()
    for split in ("val", "test"):
        hits = []
        for number, data in enumerate(tasks.values()):
            with torch.no_grad():
                log = head(network(pixels(data, split)[0])).log_softmax(dim=1)
            of_tasks = [log[:, begin:end].logsumexp(dim=1) for begin, end in zip(begins, ends, strict=True)]
            hits.append(torch.stack(of_tasks).argmax(dim=0) == number)
        each = ", ".join(f"{name} {100 * hit.double().mean():.2f}" for name, hit in zip(tasks, hits, strict=True))
        sys.stdout.write(f"{split}: {100 * torch.cat(hits).double().mean():.2f} % ({each})\n")


if __name__ == "__main__":
    main()
