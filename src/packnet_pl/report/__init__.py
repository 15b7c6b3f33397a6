"""Results as tables and figures."""

from packnet_pl.report.figure import draw_ownership
from packnet_pl.report.ratios import RatioRow, draw_ratios, ratio_rows, ratio_table, write_ratios_csv
from packnet_pl.report.runs import Run, find_runs
from packnet_pl.report.table import TABLE_WIDTH, results_table

__all__ = [
    "TABLE_WIDTH",
    "RatioRow",
    "Run",
    "draw_ownership",
    "draw_ratios",
    "find_runs",
    "ratio_rows",
    "ratio_table",
    "results_table",
    "write_ratios_csv",
]
