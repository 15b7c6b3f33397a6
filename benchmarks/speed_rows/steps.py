"""A training step of the second task over one of plain fine-tuning, in a plain loop on images of 64 x 64."""

from speed_rows import ours
from speed_rows.clock import Report
from speed_rows.peer import PAIRS, STEPS, measure_step

__all__ = ["measure"]


def measure(quick: bool, report: Report, row: str) -> dict[str, list[float]]:
    """Returns the ratios of one row of :data:`speed_rows.peer.STEPS`, through the adapter that a peer would have."""
    arch, batch_size, optimizer = STEPS[row]
    rounds = 2 if quick else PAIRS
    return {row: measure_step(ours, "tiny" if quick else arch, batch_size, optimizer, rounds, report)}
