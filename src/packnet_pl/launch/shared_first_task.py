"""Shares the training of the first task between runs that differ only from its first pruning on.

The file that a run leaves for the others is its last checkpoint of that training; they begin as if they had been killed
right after it, and a resumed run ends bit-identical to one that was not.
"""

import copy
import fcntl
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from omegaconf import DictConfig, OmegaConf

from packnet_pl.checkpoint_reading import read_checkpoint
from packnet_pl.configuration.instantiate import build_target
from packnet_pl.core import PruneRule
from packnet_pl.data.inventory import Inventory
from packnet_pl.files import replacing
from packnet_pl.run import RunPlan, StopRequest
from packnet_pl.run_directory import checkpoint_path, metrics_path, packed_path
from packnet_pl.sharded_files import copy_shards, has_shards

__all__ = ["SharedTraining", "digest", "with_shared_training"]

# Neither changes a bit of the first task's training.
_WITHOUT_INFLUENCE = (
    "prune",
    "mask",
    "logger",
    "checkpoint",
    "sweep",
    "resume",
    "changed_data",
    "packed",
    "grow",
    "grow_below",
)
_OF_LATER_PHASES = ("later_lr", "distillation", "temperature")  # of ``optim``
_log = logging.getLogger(__name__)


def with_shared_training(plan: RunPlan, config: DictConfig, stop: StopRequest) -> RunPlan:
    """Returns the plan of a run that takes its trained first task from ``checkpoint.shared``, or leaves it there.

    Runs that do not prune the first task share nothing: others could differ from them in no other way.

    Args:
        plan: What to do.
        config: Checked.
        stop: Asked while another run is training it.
    """
    own = checkpoint_path(plan.folder, plan.tasks[0].name, "train")
    begun = own.exists() or packed_path(plan.folder).exists()
    if not config.checkpoint.shared or config.packed or begun:
        return plan
    epochs = plan.tasks[0].epochs
    if not epochs["train"] or "retrain" not in epochs:
        return plan
    plain: Any = OmegaConf.to_container(config)
    data = plan.tasks[0].data
    shared = SharedTraining(Path(config.checkpoint.shared), digest(plain, data.inventory if data else None))
    metrics = metrics_path(plan.folder, plan.tasks[0].name, "train")
    shared.adopt(own, metrics, stop.raise_if_asked)
    return replace(plan, trained=partial(shared.publish, metrics=metrics))


def digest(config: Mapping[str, Any], data: Inventory | None = None) -> str:
    """Returns a name that is equal for runs whose training of the first task is equal.

    Args:
        config: Checked, as plain objects.
        data: What the first task's splits hold.
    """
    deciding: dict[str, Any] = copy.deepcopy({k: v for k, v in config.items() if k not in _WITHOUT_INFLUENCE})
    first = deciding["sequence"]["order"][0]
    task = deciding["sequence"]["tasks"][first]
    deciding["sequence"] = {"first": first, **{key: value for key, value in task.items() if key != "retrain"}}
    rule = deciding["method"]["fit"].pop("rule", None)
    if rule is not None and _adds_up_gradients(rule):
        deciding["score"] = rule["score"]["_target_"]  # the checkpoint has what it added up
    if config["prune"].get("schedule") == "learned":
        deciding["prune"] = config["prune"]  # what will be released decides what the training sees
    for key in _OF_LATER_PHASES:
        deciding["optim"].pop(key, None)
    for key in ("epochs", "lr"):
        deciding["optim"].get(key, {}).pop("retrain", None)
    deciding["versions"] = {name: version(name) for name in ("torch", "pytorch-lightning", "packnet-pl")}
    deciding["inventory"] = None if data is None else asdict(data)
    text = json.dumps(deciding, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _adds_up_gradients(rule: Mapping[str, Any]) -> bool:
    made = build_target(OmegaConf.create(dict(rule)), "prune.rule")
    return isinstance(made, PruneRule) and made.gradient_score is not None


class SharedTraining:
    """A folder of checkpoints with their metrics, one per digest, and a lock held by the run that is training it.

    Args:
        folder: The folder.
        name: From :func:`digest`.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.ckpt"
        self._metrics_path = folder / f"{name}.csv"
        self._lock_path = folder / f"{name}.lock"
        self._lock: IO[str] | None = None

    def adopt(self, checkpoint: Path, metrics: Path, wait: Callable[[], None]) -> None:
        """Copies the shared checkpoint to ``checkpoint``, or leaves the training of it to this run.

        Args:
            checkpoint: Where the run looks for the last checkpoint of that training.
            metrics: Where it looks for that training's ``metrics.csv``, if the run that trained it wrote one.
            wait: Called again and again while another run is training it; it may raise.
        """
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        lock = self._lock_path.open("a")
        reported = False
        while not self._path.exists():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not reported:
                    _log.info("waiting for another job, which trains the first task for this one too")
                    reported = True
                wait()
                time.sleep(0.2)
                continue
            if not self._path.exists():
                self._lock = lock  # held until the training is done, or this process has ended
                return
        lock.close()
        if self._metrics_path.exists():
            _copy(self._metrics_path, metrics)
        _copy_checkpoint(self._path, checkpoint)
        _log.info("the first task was trained by another job; this one goes on from there")

    def publish(self, checkpoint: Path, metrics: Path) -> None:
        """Leaves ``checkpoint``, and ``metrics`` if there is such a file, to the other runs."""
        if not self._path.exists():
            if metrics.exists():
                _copy(metrics, self._metrics_path)
            _copy_checkpoint(checkpoint, self._path)
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _copy_checkpoint(source: Path, target: Path) -> None:
    if has_shards(source):
        copy_shards(source, target, read_checkpoint(source))
    _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
