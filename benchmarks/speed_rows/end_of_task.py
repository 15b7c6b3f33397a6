"""The end of a task of VGG-16 at full width: packed file, figures and results, over writing the packed file alone."""

import tempfile
from pathlib import Path

from packnet_pl import TaskClassifier, save_packed
from packnet_pl.models import torchvision_backbone
from packnet_pl.results import TaskResult
from packnet_pl.run.artifacts import write_outcome
from packnet_pl.run.metrics import Scores
from packnet_pl.run.task_record import TaskRecord
from packnet_pl.run_directory import packed_path
from speed_rows.clock import Report, ratios
from speed_rows.sequence import CLASSES, plan_of

__all__ = ["measure"]

ROUNDS = 5


def measure(quick: bool, report: Report) -> dict[str, list[float]]:
    """Returns the row's ratios: after the first task, half of which was pruned."""
    model = TaskClassifier(torchvision_backbone("vgg16", image_size=64, width=0.02 if quick else 1.0))
    model.add_task("task 1", num_classes=CLASSES)
    model.packnet.begin_task("task 1", private=model.private_modules("task 1"))
    model.packnet.prune(0.5)
    model.packnet.finish_task(model)
    names = list("abcde"[:CLASSES])
    result = TaskResult("task 1", CLASSES, names, 0.5, 0.5, 1.0, 5, {"dense": 0.2, "pruned": 0.2, "retrained": 0.2})
    scores = {"task 1": Scores((1, 0, 0, 0, 0), None, (1, 1, 1, 1, 1))}
    records = [TaskRecord(result, scores, [True], {"task 1": 0.2})]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = plan_of(folder, 1, 8, 8)
        found = ratios(
            lambda: write_outcome(plan, model, records, lambda: None),
            lambda: save_packed(model, packed_path(folder)),
            1 if quick else ROUNDS,
            report,
        )
    return {"end-of-task": found}
