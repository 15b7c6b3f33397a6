"""What loggers hold of a run, as their own readers read it: metric -> [(step, value), ...], in the order of the run."""

import json
import struct

from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record


def in_tensorboard(folder):
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def images_in_tensorboard(folder):
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    return {tag: [image.step for image in events.Images(tag)] for tag in events.Tags()["images"]}


def mlflow_runs(uri):
    client = MlflowClient(uri)
    return client, [run for found in client.search_experiments() for run in client.search_runs([found.experiment_id])]


def in_mlflow(uri):
    client, (run,) = mlflow_runs(uri)
    return {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics
    }


def wandb_records(path):
    """The records of an offline run: blocks of 32 KiB as in LevelDB's log, behind a header of 7 bytes."""
    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(record)
            record = b""


def wandb_files(folder):
    """The files of offline runs, in the order in which they began."""
    return sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))


def in_wandb(path):
    found = {}
    for record in wandb_records(path):
        if record.WhichOneof("record_type") == "history":
            row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
            for name, value in row.items():
                if not name.startswith(("_", "trainer/", "report/")):
                    found.setdefault(name, []).append((row["trainer/global_step"], value))
    return found
