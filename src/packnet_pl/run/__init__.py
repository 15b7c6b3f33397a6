"""The task loop of a whole sequence: fit, evaluate, record."""

from packnet_pl.run.plan import RunPlan, TaskPlan
from packnet_pl.run.sequence import run_sequence

__all__ = ["RunPlan", "TaskPlan", "run_sequence"]
