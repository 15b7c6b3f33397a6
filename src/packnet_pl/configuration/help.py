"""The text of ``packnet-train --help``: every choice in one line, taken from the configurations themselves."""

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

__all__ = ["GROUPS", "help_text"]

GROUPS = (
    "sequence",
    "arch",
    "prune",
    "mask",
    "method",
    "optim",
    "trainer",
    "logger",
    "callbacks",
    "debug",
    "experiment",
)

HEAD = """\
packnet-train trains tasks, one after the other, into one network that forgets nothing.

    packnet-train [GROUP=CHOICE ...] [KEY=VALUE ...]

Choices (the first line of each configuration; * is the default):
"""

TAIL = """\
arch= also takes the name of any torchvision network that classifies images, and timm/NAME.
Every key can be set: packnet-train --cfg job shows them all. -m GROUP=A,B runs a sweep.

Examples:
    packnet-train                                              the embedded alphabets and digits, on the CPU
    packnet-train 'prune.ratio=[0.5,0.75,0.75,0.75]' seed=1    a ratio per task; fractions, never percent
    packnet-train sequence=folders 'sequence.folders={cats: /data/cats, cars: /data/cars}' arch=resnet18
    packnet-train arch=timm/efficientnet_b0 arch.pretrained=true trainer=gpu sequence=folders 'sequence.folders={...}'
    packnet-train debug=tiny hydra.run.dir=runs/trial          the same path in seconds; the run directory by name
    packnet-train experiment=paper/vgg16 sequence.root=/data trainer=gpu   the paper's table: docs/experiments.md

packnet-plan with the same words shows what would be trained, and whether it fits, without training.
packnet-eval RUN_DIR holds a run's packed file against its results.
"""


def help_text() -> str:
    """Returns the help, with one line per choice of each group."""
    conf = files("packnet_pl.conf")
    defaults = (conf / "train.yaml").read_text(encoding="utf-8")
    lines = []
    for group in GROUPS:
        lines.append(f"  {group}=")
        for choice, description in sorted(_choices(conf / group)):
            mark = "*" if f"- {group}: {choice}\n" in defaults else " "
            lines.append(f"   {mark}{choice:<18} {description}")
    return f"{HEAD}\n" + "\n".join(lines) + f"\n\n{TAIL}"


def _choices(group: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the name and the help line of each configuration in a folder and the folders in it."""
    for entry in group.iterdir():
        if entry.is_dir():
            yield from _choices(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            lines = entry.read_text(encoding="utf-8").splitlines()
            description = next(line for line in lines if not line.startswith("# @"))  # where Hydra puts it
            yield prefix + entry.name.removesuffix(".yaml"), description.lstrip("# ")
