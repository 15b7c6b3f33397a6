"""What the rules of ``prunable`` do for a second task: python benchmarks/worth_it.py [--examples lstm unet] ...

Runs the examples with each rule and seed, reads the tables that they print, and prints one in Markdown: mean and sample
standard deviation over the seeds. Ratios and epochs are to be chosen by what the second task does on validation data.
"""

import argparse
import importlib
import io
import re
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from packnet_pl import CapacityError

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = ("vision_transformer", "lstm", "language_model", "text_classifier", "unet")
ROW = re.compile(r"^(\w+) +([\d.]+) +([\d.]+) +(yes|NO)$", flags=re.MULTILINE)
USABLE = re.compile(r"^usable by later tasks: (.*?%)", flags=re.MULTILINE)
HEADINGS = (
    "example",
    "`prunable`",
    "usable",
    "first task, test",
    "second task, validation",
    "second task, test",
    "first task's logits",
    "CPU s",
)


def main() -> None:
    """Prints one row per example and rule, as soon as its seeds are through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--rules", nargs="+", default=["paper", "weights"], help="of prunable")
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"])
    parser.add_argument("--epochs", help="of all examples, in the place of their own")
    parser.add_argument("--ratio", help="of all examples, in the place of their own")
    options = parser.parse_args()
    sys.path.append(str(EXAMPLES))
    given = [(f"--{name}", value) for name in ("epochs", "ratio") if (value := getattr(options, name)) is not None]
    write_row(HEADINGS)
    write_row(["---"] * len(HEADINGS))
    for example in options.examples:
        for rule in options.rules:
            words = ["--prunable", rule, *(word for pair in given for word in pair)]
            write_row([example, f'`"{rule}"`', *measure(example, words, options.seeds)])


def measure(example: str, words: Sequence[str], seeds: Sequence[str]) -> list[str]:
    """Returns what there is to say of one example with one rule, over all seeds."""
    begin = time.process_time()
    try:
        printed = [run(example, [*words, "--seed", seed]) for seed in seeds]
    except CapacityError:
        return ["0 %, refused", *["-"] * (len(HEADINGS) - 3)]
    seconds = (time.process_time() - begin) / len(seeds)
    first, second = zip(*map(ROW.findall, printed), strict=True)
    usable = USABLE.findall(printed[0])
    same = all(found[3] == "yes" for found in first)
    return [
        *usable,
        spread(found[2] for found in first),
        spread(found[1] for found in second),
        spread(found[2] for found in second),
        "the same bits" if same else "CHANGED",
        f"{seconds:.0f}",
    ]


def run(example: str, words: Sequence[str]) -> str:
    """Returns what an example prints."""
    with redirect_stdout(io.StringIO()) as printed:
        importlib.import_module(example).main(words)
    return printed.getvalue()


def spread(figures: Iterable[str]) -> str:
    """Returns mean and sample standard deviation; of one figure, itself."""
    values = [float(figure) for figure in figures]
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def write_row(cells: Sequence[str]) -> None:
    """Prints a row of a table in Markdown."""
    print(f"| {' | '.join(cells)} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
