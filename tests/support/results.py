"""Results files as a run leaves them, with figures of the test's."""

import json

NAMES = ["latin", "greek", "digits"]
STORAGE = {"dense_bytes": 1_000_000, "networks": 1, "packed_bytes": 340_000, "owner_bits_per_weight": 1.5}


def task(name, ratio):
    """Returns what a results file says of a task."""
    val_accuracy = {"dense": 0.5, "pruned": None, "retrained": None}
    figures = {"prune_ratio": ratio, "owned": None, "seconds": 1.5, "test_size": 4, "val_accuracy": val_accuracy}
    return {"name": name, "num_classes": 2, "class_names": ["x", "y"], **figures}


def write_run(
    folder,
    ratios=(0.5, 0.5),
    errors=(0.2, 0.4),
    seed=0,
    complete=True,
    free=0.25,
    method="packnet",
    names=NAMES,
    **more,
):
    """Writes a run directory; ``more`` replaces fields."""
    folder.mkdir(parents=True, exist_ok=True)
    names = names[: len(errors)]
    results = {
        "format": 1,
        "method": method,
        "arch": "vgg_small",
        "seed": seed,
        "complete": complete,
        "versions": {"packnet_pl": "0.1.0"},
        "tasks": [task(name, ratio) for name, ratio in zip(names, ratios, strict=True)],
        "accuracy": [[1 - error for error in errors[: row + 1]] for row in range(len(errors))],
        "outputs_unchanged": [True] * len(errors),
        "forgetting": [0.0] * len(errors),
        "free": free,
        "storage": STORAGE,
        "settings": {},
        "val_now": [None] * len(errors),
        **more,
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def write_other(folder, method, errors, seed=0, **more):
    """Writes the directory of a run that prunes nothing."""
    return write_run(folder, (None,) * len(errors), errors, seed, free=None, method=method, **more)
