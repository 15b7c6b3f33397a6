"""Results as tables and figures: of one run, of a sweep over prune ratios, of methods side by side."""

from packnet_pl.report.kinds import is_comparison, remarks, sequences
from packnet_pl.report.methods import MethodComparison, MethodRow, compare_methods
from packnet_pl.report.methods_figure import MethodPoints, Spread, draw_methods, method_points
from packnet_pl.report.methods_text import method_table, methods_markdown, write_methods_csv, write_methods_markdown
from packnet_pl.report.ownership_figure import draw_ownership
from packnet_pl.report.ratios import RatioRow, ratio_rows, ratio_tables
from packnet_pl.report.ratios_figure import RatioPoints, draw_ratios, ratio_points
from packnet_pl.report.ratios_text import ratio_table, write_ratios_csv
from packnet_pl.report.runs import SPLITS, Run, find_runs
from packnet_pl.report.style import DARK, LIGHT, Draw, Theme, write_figure
from packnet_pl.report.table import results_table

__all__ = [
    "DARK",
    "LIGHT",
    "SPLITS",
    "Draw",
    "MethodComparison",
    "MethodPoints",
    "MethodRow",
    "RatioPoints",
    "RatioRow",
    "Run",
    "Spread",
    "Theme",
    "compare_methods",
    "draw_methods",
    "draw_ownership",
    "draw_ratios",
    "find_runs",
    "is_comparison",
    "method_points",
    "method_table",
    "methods_markdown",
    "ratio_points",
    "ratio_rows",
    "ratio_table",
    "ratio_tables",
    "remarks",
    "results_table",
    "sequences",
    "write_figure",
    "write_methods_csv",
    "write_methods_markdown",
    "write_ratios_csv",
]
