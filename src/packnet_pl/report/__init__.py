"""Results as tables and figures."""

from packnet_pl.report.figure import draw_ownership
from packnet_pl.report.table import results_table

__all__ = ["draw_ownership", "results_table"]
