"""How often ``packnet-predict --task auto`` picks the right task: python benchmarks/auto_task.py RUN_DIR...

Asks each run's packed file about all images of its tasks' validation and test splits.
"""

import sys
from itertools import pairwise
from pathlib import Path

import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from packnet_pl import load_packed
from packnet_pl.configuration.components import build_data
from packnet_pl.packed.task_choice import choose_tasks, renormalised
from packnet_pl.run_directory import read_run

# Of the entropy, and of the score where all tasks have statistics.
LEADS = (0.0, 0.05, 0.1, 0.2, 0.3, 1.01)
SCORE_LEADS = (0.0, 0.25, 0.5, 1.0, 2.0, float("inf"))


def main() -> None:
    """Prints a table per run and split."""
    console = Console()
    for folder in map(Path, sys.argv[1:]):
        network = load_packed(folder / "packed.safetensors")
        run = read_run(folder)
        if run is None:
            raise SystemExit(f"{folder} is no run directory")
        data = build_data(OmegaConf.create(run.config))
        for name in ("val", "test"):
            table = Table("images of", "number", "right task, %", title=f"{folder}, {name}")
            leads, hits = [], []
            for task, splits in data.items():
                images = torch.stack([item[0] for item in getattr(splits, name)])
                info = network.info(task)
                given = {other: renormalised(images, info, network.info(other)) for other in network.tasks}
                found = choose_tasks(network, given)
                hits.append(torch.tensor([chosen == task for chosen, _ in found]))
                leads.append(torch.tensor([lead for _, lead in found], dtype=torch.float64))
                table.add_row(task, str(len(images)), f"{100 * hits[-1].double().mean():.2f}")
            lead, hit = torch.cat(leads), torch.cat(hits)
            table.add_section()
            table.add_row("all", str(len(hit)), f"{100 * hit.double().mean():.2f}")
            table.add_section()
            for low, high in pairwise(SCORE_LEADS if network.statistics else LEADS):
                chosen = hit[(lead >= low) & (lead < high)]
                share = f"{100 * chosen.double().mean():.2f}" if len(chosen) else "-"
                upper = "or more" if (high > 1 and not network.statistics) or high == float("inf") else f"to {high:g}"
                table.add_row(f"lead {low:g} {upper}", str(len(chosen)), share)
            console.print(table)


if __name__ == "__main__":
    main()
