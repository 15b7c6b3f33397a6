"""Draws what 1 to 50 tasks cost in one VGG-16 at full width: python benchmarks/growth.py [--width W] [--at N ...].

Each task keeps a tenth of what is free; weights are drawn in place of training. Beside each figure its measure is
taken anew: begin_task and state_dict (which verifies all tasks) over a pass over the weights, a step over one of plain
fine-tuning on an equal network, an evaluation over a plain forward pass; CPU time, one thread, medians. Needs 6 GB and
about a quarter of an hour of an idle core. Writes docs/images/growth.png and benchmarks/growth.json.
"""

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import nn

from speed_rows.clock import seconds
from speed_rows.growing import Growing
from speed_rows.growth import state_bytes
from speed_rows.machine import machine_facts, versions
from speed_rows.networks import OPTIMIZERS, abs_pass, batch_of, plain_step

ROOT = Path(__file__).parents[1]
AT = (2, 5, 10, 20, 30, 40, 50)
PANELS = {
    "begin": "begin_task, passes over the weights",
    "state": "state_dict, passes over the weights",
    "step": "a training step, over plain fine-tuning",
    "evaluation": "an evaluation, over a plain forward pass",
    "bytes": "PackNet's state, bytes per weight",
}


def main() -> None:
    """Measures, draws and writes."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--width", type=float, default=1.0, help="below 1 for a trial")
    parser.add_argument("--at", type=int, nargs="+", default=AT, help="the tasks that are measured, from 2 on")
    parser.add_argument("--rounds", type=int, default=3, help="of which each figure is the median")
    parser.add_argument("--image", type=Path, default=ROOT / "docs" / "images" / "growth.png")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("growth.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    growing, found = Growing("vgg16", given.width, "shared"), dict[int, dict[str, float]]()
    plain = nn.Sequential(copy.deepcopy(growing.model.backbone), nn.Linear(growing.model.heads.num_features, 10))
    with Console().status("") as status:
        for task in given.at:
            status.update(f"tasks up to {task}")
            growing.finish_until(task - 1)
            status.update(f"measuring task {task}")
            found[task] = _measure(growing, plain, given.rounds)
            content = {"machine": machine_facts(), "versions": versions(), "tasks": found}
            given.json.write_text(json.dumps(content, indent=1) + "\n")
    draw(found, given.image)


def _measure(growing: Growing, plain: nn.Module, rounds: int) -> dict[str, float]:
    weights, batch = list(growing.weights.values()), batch_of(4)
    optimizer = OPTIMIZERS["momentum"](plain.parameters())

    def over_pass(prepare: Callable[[], object], action: Callable[[], object]) -> float:
        ratios = []
        for _ in range(rounds):
            prepare()
            over = seconds(lambda: abs_pass(weights))
            ratios.append(seconds(action) / over)
        return median(ratios)

    found = {"begin": over_pass(growing.reload, growing.begin)}
    growing.reload()
    growing.open_next()
    growing.step()
    plain_step(plain, optimizer, batch)
    pairs = [(seconds(growing.step), seconds(lambda: plain_step(plain, optimizer, batch))) for _ in range(2 * rounds)]
    found["step"] = median(ours / theirs for ours, theirs in pairs)
    plain.zero_grad()
    found["state"] = over_pass(growing.step, growing.state_dict)
    found["bytes"] = state_bytes(growing.state_dict()) / sum(weight.numel() for weight in weights)
    with torch.no_grad():
        pairs = [(seconds(growing.evaluate), seconds(lambda: plain(batch[0]))) for _ in range(rounds)]
    found["evaluation"] = median(ours / theirs for ours, theirs in pairs)
    return found


def draw(found: dict[int, dict[str, float]], image: Path) -> None:
    """Draws a panel per figure, from zero on, so that what grows can be told from what only varies.

    Args:
        found: Number of tasks -> figures by the names of :data:`PANELS`.
        image: The PNG.
    """
    figure = Figure(figsize=(11, 6), dpi=110, layout="constrained")
    axes = figure.subplots(2, 3)
    for axis, (key, title) in zip(axes.flat, PANELS.items(), strict=False):
        values = [figures[key] for figures in found.values()]
        axis.plot(list(found), values, marker="o", markersize=3.5, color="#1f6f8b")
        axis.set_title(title, fontsize=10)
        axis.set_ylim(0, 1.25 * max(values))
        axis.set_xlim(0, max(found) + 1)
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlabel("task", fontsize=9)
    axes.flat[-1].axis("off")
    figure.savefig(image)


if __name__ == "__main__":
    main()
