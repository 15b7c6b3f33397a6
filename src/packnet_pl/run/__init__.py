"""A run over a sequence of tasks: the loop, its plan, what it records and where it resumes."""

from packnet_pl.run.plan import LoggerPlan, RunPlan, Stage, TaskPlan
from packnet_pl.run.resume_point import adopt_packed
from packnet_pl.run.sequence import run_sequence
from packnet_pl.run.signals import StoppedError, StopRequest

__all__ = ["LoggerPlan", "RunPlan", "Stage", "StopRequest", "StoppedError", "TaskPlan", "adopt_packed", "run_sequence"]
