"""A training step of the second task over one of plain fine-tuning, in a plain loop on images of 64 x 64."""

from speed_rows import ours
from speed_rows.clock import Report
from speed_rows.peer import PAIRS, STEPS, measure_step

__all__ = ["measure"]


def measure(quick: bool, report: Report) -> dict[str, list[float]]:
    """Returns row -> ratios, through the adapter that a peer would have."""
    found = {}
    for row, (arch, batch_size, optimizer) in STEPS.items():
        rounds = 2 if quick else PAIRS

        def of_row(text: str, row: str = row) -> None:
            report(f"{row}: {text}")

        found[row] = measure_step(ours, "tiny" if quick else arch, batch_size, optimizer, rounds, of_row)
    return found
