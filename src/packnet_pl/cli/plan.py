"""``packnet-plan``: what ``packnet-train`` would do with the same words, without training."""

import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from packnet_pl.configuration.compose import prepare, set_up, sort_arguments
from packnet_pl.errors import UsageError, answering_errors

__all__ = ["main"]

PROGRAM = "packnet-plan"
_SHOWN_ELSEWHERE = ("multirun", "cfg", "info", "shell_completion", "hydra_help")
USAGE = """\
packnet-plan [GROUP=CHOICE ...] [KEY=VALUE ...] takes the words of packnet-train, and shows the tasks, their classes and
images, the weights that each will own, what stays free, storage, epochs, steps, the images that the last batch of
each epoch leaves out, and about how long it takes, without training anything.
"""


def main() -> None:
    """Runs the command line."""
    set_up()
    with answering_errors(PROGRAM):
        arguments = sort_arguments()
        if arguments.help:
            sys.stdout.write(USAGE)
            return
        asked = [name for name in _SHOWN_ELSEWHERE if getattr(arguments, name, None)]
        if asked:
            raise UsageError(
                f"--{asked[0].replace('_', '-')} is for packnet-train; {PROGRAM} shows what one run would do"
            )
        config, _, parts = prepare(arguments, to_train=False)
        _show(config, parts)


def _show(config: Any, parts: Any) -> None:
    import torch
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from packnet_pl.configuration.forecast import epochs_of, forecast_shares, phases_of
    from packnet_pl.counting import counted
    from packnet_pl.data.epoch_steps import epoch_steps
    from packnet_pl.packed import NetworkPerTask
    from packnet_pl.report import TABLE_WIDTH
    from packnet_pl.training.trainer_checks import CONVERTING

    weights = sum(parameter.numel() for parameter in parts.model.backbone.parameters())
    prunable = parts.model.packnet.summary().total.weights if parts.model.packnet else 0
    shares = forecast_shares(config, parts.data, parts.model.packnet, parts.packed)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("task")
    headings = (
        "classes",
        "images\ntrain / val / test",
        "ratio",
        f"{config.prune.granularity}s\nowned",
        "free\nthen",
        "epochs",
        "steps",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    heads = 0
    epochs_in_all: dict[str, int] = {}
    for name, data, ratio, share in shares:
        assert data is not None  # only those of finished tasks may be missing, and these are to be trained
        sizes: list[int] = [len(split) for split in (data.train, data.val, data.test)]  # type: ignore[arg-type]
        phases = phases_of(config, ratio)
        epochs = [epochs_of(config, name, phase) for phase in phases]
        steps = epoch_steps(sizes[0], config.optim.batch_size, config.optim.accumulate, parts.processes).steps
        epochs_in_all[name] = sum(epochs)
        heads += (parts.model.heads.num_features + 1) * len(data.class_names)
        table.add_row(
            name,
            str(len(data.class_names)),
            " / ".join(f"{size:,}" for size in sizes),
            "-" if ratio is None else f"{ratio:g}",
            "-" if share is None else f"{share[0]:,}",
            "-" if share is None else f"{share[1]:,}",
            " + ".join(map(str, epochs)),
            "-" if config.method.together else f"{sum(epochs) * steps:,}",  # those of all together are said below
        )
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    console.print(table)
    for line in _times(config, parts, epochs_in_all):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    # Free weights are not stored, and an owner takes at most this many bits.
    free = next((share[1] for *_, share in reversed(shares) if share is not None), 0)
    owner_bytes = prunable * math.log2(len(config.sequence.order) + 1) / 8
    networks = counted(len(shares), "separate network")
    weight_bytes = CONVERTING.get(parts.precision, torch.float32).itemsize
    many = weight_bytes * (weights * len(shares) + heads)
    shared = weight_bytes * (weights - free + heads) + owner_bytes
    packed = many if isinstance(parts.model, NetworkPerTask) else shared
    console.print(
        f"backbone: {weights:,} parameters, {prunable:,} of them prunable\n"
        f"storage: about {packed / 1e6:,.1f} MB packed; {many / 1e6:,.1f} MB as {networks}",
        highlight=False,
    )


def _times(config: Any, parts: Any, epochs: Mapping[str, int]) -> Iterator[str]:
    """Yields a line per fit: its steps, what they leave out, and about how long they take; and the time of all."""
    from packnet_pl.configuration.timing import duration, reading_seconds, training_seconds
    from packnet_pl.counting import counted
    from packnet_pl.data.epoch_steps import epoch_steps

    fits = [list(epochs)] if config.method.together else [[name] for name in epochs]
    known: dict[Any, float | None] = {}
    total: float | None = 0.0
    for names in fits:
        data = parts.data[names[-1]]
        size = sum(len(parts.data[name].train) for name in names)
        epoch = epoch_steps(size, config.optim.batch_size, config.optim.accumulate, parts.processes)
        kind = (tuple(data.input_shape), epoch.batch_size)
        if kind not in known:
            known[kind] = training_seconds(parts.model.backbone, *kind, parts.device)
        each, said = known[kind], "time not known"
        if each is not None:
            seconds = _per_image(each, reading_seconds(data.train), config.optim.num_workers)
            seconds *= epoch.batch_size * epoch.batches * epochs[names[-1]]
            total, said = (None if total is None else total + seconds), duration(seconds)
        else:
            total = None
        left_out = f", {epoch.left_out:,} of {counted(size, 'image')} left out by the last batch"
        yield (
            f"training {' + '.join(names)}: {counted(epoch.steps, 'step')} of {config.optim.batch_size:,} an epoch"
            f"{left_out if epoch.left_out else ''}; {said}"
        )
    if total is not None:
        yield f"time: {duration(total)} on {parts.device}, from a batch that was timed; testing comes on top"


def _per_image(training: float, reading: float, num_workers: int) -> float:
    """Returns the seconds that an image takes, where it is read by the training process or by others beside it."""
    return max(training, reading / num_workers) if num_workers else training + reading


if __name__ == "__main__":
    main()
