"""``packnet-plan``: what ``packnet-train`` would do with the same words, without training."""

import math
import sys
from typing import Any

from packnet_pl.cli.errors import answering_errors
from packnet_pl.cli.prepare import prepare, set_up, sort_arguments

__all__ = ["main"]

PROGRAM = "packnet-plan"
USAGE = """\
packnet-plan [GROUP=CHOICE ...] [KEY=VALUE ...] takes the words of packnet-train, and shows the tasks, their classes and
pictures, the weights that each will own, what stays free, storage, epochs and steps, without training anything.
"""


def main() -> None:
    """Runs the command line."""
    set_up()
    with answering_errors(PROGRAM):
        arguments = sort_arguments()
        if arguments.help:
            sys.stdout.write(USAGE)
            return
        config, _, parts = prepare(arguments, to_train=False)
        _show(config, parts)


def _show(config: Any, parts: Any) -> None:
    import torch
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from packnet_pl.cli.forecast import epochs_of, forecast_shares, phases_of
    from packnet_pl.report import TABLE_WIDTH
    from packnet_pl.training.checks import CONVERTING

    weights = sum(parameter.numel() for parameter in parts.model.backbone.parameters())
    prunable = parts.model.packnet.summary().total.weights if parts.model.packnet else 0
    shares = forecast_shares(config, parts.data, parts.model.packnet, parts.packed)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("task")
    headings = (
        "classes",
        "pictures\ntrain / val / test",
        "ratio",
        f"{config.prune.granularity}s\nowned",
        "free\nthen",
        "epochs",
        "steps",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    heads = 0
    for name, data, ratio, share in shares:
        assert data is not None  # only those of finished tasks may be missing, and these are to be trained
        sizes: list[int] = [len(split) for split in (data.train, data.val, data.test)]  # type: ignore[arg-type]
        phases = phases_of(config, ratio)
        epochs = [epochs_of(config, name, phase) for phase in phases]
        per_epoch = max(1, sizes[0] // config.optim.batch_size)
        heads += (parts.model.heads.num_features + 1) * len(data.class_names)
        table.add_row(
            name,
            str(len(data.class_names)),
            " / ".join(f"{size:,}" for size in sizes),
            "-" if ratio is None else f"{ratio:g}",
            "-" if share is None else f"{share[0]:,}",
            "-" if share is None else f"{share[1]:,}",
            " + ".join(map(str, epochs)),
            f"{sum(epochs) * per_epoch:,}",
        )
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    console.print(table)
    # Free weights are not stored, and an owner takes at most this many bits.
    free = next((share[1] for *_, share in reversed(shares) if share is not None), 0)
    owner_bytes = prunable * math.log2(len(config.sequence.order) + 1) / 8
    weight_bytes = CONVERTING.get(parts.precision, torch.float32).itemsize
    many = weight_bytes * (weights * len(shares) + heads)
    one = weight_bytes * (weights - free + heads) + owner_bytes if parts.model.shares else many
    console.print(
        f"backbone: {weights:,} parameters, {prunable:,} of them prunable\n"
        f"storage: about {one / 1e6:,.1f} MB packed; {many / 1e6:,.1f} MB as {len(shares)} separate networks",
        highlight=False,
    )


if __name__ == "__main__":
    main()
