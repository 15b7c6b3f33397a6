"""Results as tables and figures."""

from packnet_pl.report.figure import draw_ownership
from packnet_pl.report.table import TABLE_WIDTH, results_table

__all__ = ["TABLE_WIDTH", "draw_ownership", "results_table"]
