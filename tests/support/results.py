"""Results files as a run leaves them, with figures of the test's."""

import json

NAMES = ["latin", "greek", "digits"]


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
    """Writes a run directory.

    ``more`` replaces fields, and adds those that only newer files have: ``settings``, ``val_now``, ``storage``.
    """
    folder.mkdir(parents=True)
    names = names[: len(errors)]
    results = {
        "format": 1,
        "method": method,
        "arch": "vgg_small",
        "seed": seed,
        "complete": complete,
        "tasks": [{"name": name, "prune_ratio": ratio} for name, ratio in zip(names, ratios, strict=True)],
        "accuracy": [[1 - error for error in errors[: row + 1]] for row in range(len(errors))],
        "forgetting": [0.0] * len(errors),
        "free": free,
        **more,
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def write_other(folder, method, errors, seed=0, **more):
    """Writes the directory of a run that prunes nothing."""
    return write_run(folder, (None,) * len(errors), errors, seed, free=None, method=method, **more)
