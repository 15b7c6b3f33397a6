"""Results as tables and figures: of one run, of a sweep over prune ratios, of methods side by side."""

from packnet_pl.report.accuracy_figure import draw_accuracy
from packnet_pl.report.capacity_figure import draw_capacity
from packnet_pl.report.comparison_page import comparison_page, numbered, ratio_figure
from packnet_pl.report.confusion_figure import draw_confusion
from packnet_pl.report.curves import Curve
from packnet_pl.report.curves_figure import draw_curves
from packnet_pl.report.filter_figure import draw_filter, most_divided
from packnet_pl.report.kinds import is_comparison, remarks, sequences
from packnet_pl.report.methods import MethodComparison, MethodRow, compare_methods
from packnet_pl.report.methods_figure import MethodPoints, Spread, draw_methods, method_points
from packnet_pl.report.methods_text import method_table, methods_markdown, write_methods_csv, write_methods_markdown
from packnet_pl.report.ownership_figure import draw_ownership
from packnet_pl.report.page import PAGE_NAME, Page, write_page
from packnet_pl.report.pairs_figure import draw_pairs
from packnet_pl.report.ratios import RatioRow, ratio_rows, ratio_tables
from packnet_pl.report.ratios_figure import RatioPoints, draw_ratios, ratio_points
from packnet_pl.report.ratios_text import ratio_table, write_ratios_csv
from packnet_pl.report.run_page import run_page
from packnet_pl.report.runs import SPLITS, Run, find_runs, is_run
from packnet_pl.report.storage_figure import draw_storage
from packnet_pl.report.story import RunStory, read_story
from packnet_pl.report.style import DARK, LIGHT, Draw, Theme, write_figure
from packnet_pl.report.table import results_table

__all__ = [
    "DARK",
    "LIGHT",
    "PAGE_NAME",
    "SPLITS",
    "Curve",
    "Draw",
    "MethodComparison",
    "MethodPoints",
    "MethodRow",
    "Page",
    "RatioPoints",
    "RatioRow",
    "Run",
    "RunStory",
    "Spread",
    "Theme",
    "compare_methods",
    "comparison_page",
    "draw_accuracy",
    "draw_capacity",
    "draw_confusion",
    "draw_curves",
    "draw_filter",
    "draw_methods",
    "draw_ownership",
    "draw_pairs",
    "draw_ratios",
    "draw_storage",
    "find_runs",
    "is_comparison",
    "is_run",
    "method_points",
    "method_table",
    "methods_markdown",
    "most_divided",
    "numbered",
    "ratio_figure",
    "ratio_points",
    "ratio_rows",
    "ratio_table",
    "ratio_tables",
    "read_story",
    "remarks",
    "results_table",
    "run_page",
    "sequences",
    "write_figure",
    "write_methods_csv",
    "write_methods_markdown",
    "write_page",
    "write_ratios_csv",
]
