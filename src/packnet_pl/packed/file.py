"""The packed file: shared weights once, their owners, and a head per task, in one safetensors file.

Format 0 is plain: tensors ``shared/<name>``, ``owners/<name>`` (uint8), ``heads/<number>/<name>`` and, where tasks keep
norms or biases of their own, ``copies/<number>/<name>``, and under the metadata key ``packnet_pl`` a JSON header with
``format``, ``backbone`` (builder name and arguments, or null), ``tasks`` (in order: ``name``, ``num_classes``,
``class_names``, ``input_shape``, ``mean``, ``std``) and ``packnet`` (what PackNet knows beside owners and copies; null
if all tasks use all weights) and ``history`` (what was measured of the tasks, or empty).
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from packnet_pl.core import PackNet
from packnet_pl.files import replacing
from packnet_pl.models import Heads

__all__ = ["Packable", "Packed", "read_packed", "save_packed"]

FORMAT = 0
_KEY = "packnet_pl"


class Packable(Protocol):
    """What can be packed: a TaskClassifier, or anything with these three."""

    backbone: nn.Module
    heads: Heads
    packnet: PackNet | None


@dataclass(frozen=True)
class Packed:
    """What a packed file holds, as it was read.

    Attributes:
        path: Where it was.
        header: See the module's docstring.
        tensors: Name -> tensor, likewise.
    """

    path: str
    header: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in order."""
        return [entry["name"] for entry in self.header["tasks"]]

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was measured of the tasks, as far as whoever wrote the file gave it."""
        return list(self.header["history"])


def save_packed(model: Packable, path: str | os.PathLike[str], *, history: Sequence[Mapping[str, Any]] = ()) -> None:
    """Writes the network with all its tasks to one file, which is replaced as a whole.

    Args:
        model: Has ``backbone``, ``heads`` and ``packnet``, as a TaskClassifier does.
        path: Where to; the ending ``.safetensors`` is usual.
        history: What was measured of the tasks, for whoever goes on from the file: JSON takes it.

    Raises:
        RuntimeError: If a finished task's weights were changed from outside.
        ValueError: If a task has a head but is not finished, or a layer has extra state that is no tensor.
    """
    packnet = model.packnet
    unfinished = [task for task in model.heads.infos if packnet is not None and task not in packnet.tasks]
    if unfinished:
        raise ValueError(f"cannot save {path}: tasks {unfinished} are not finished; fit them to their end first")
    shared = model.backbone.state_dict()
    extra = [name for name, value in shared.items() if not isinstance(value, Tensor)]
    if extra:
        raise ValueError(
            f"cannot save {path}: {extra[0]} is extra state of a layer and no tensor, which the file cannot hold"
        )
    tensors = {f"shared/{name}": value for name, value in shared.items()}
    state = None
    if packnet is not None:
        state = packnet.state_dict(model if isinstance(model, nn.Module) else None)
        tensors |= {f"owners/{name}": owner for name, owner in state.pop("owners").items()}
        for number, copies in enumerate(state.pop("copies").values()):
            tensors |= {f"copies/{number}/{name}": value for name, value in copies.items()}
    for number, task in enumerate(model.heads.infos):
        tensors |= {f"heads/{number}/{name}": value for name, value in model.heads[task].state_dict().items()}
    header = {
        "format": FORMAT,
        "backbone": getattr(model.backbone, "builder", None),
        "tasks": [{"name": task, **info.dump()} for task, info in model.heads.infos.items()],
        "packnet": state,
        "history": list(history),
    }
    # Clones: safetensors refuses tensors that share memory, as tied weights do.
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    with replacing(path) as temporary:
        # Bytes, written by Python: a full disk is an OSError then, as everywhere else.
        temporary.write_bytes(save(plain, metadata={_KEY: json.dumps(header, ensure_ascii=False)}))


def read_packed(path: str | os.PathLike[str]) -> Packed:
    """Returns what :func:`save_packed` wrote, without building anything; no code in it is run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a packed file, of another format, or damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no packed file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                raise ValueError(f"{path} is a safetensors file, but not a packed network: it has no {_KEY!r} header")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        header = json.loads(metadata[_KEY])
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a packed file, or is damaged: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else header
        raise ValueError(f"{path} has format {found!r}; this version reads format {FORMAT}")
    missing = {"backbone", "tasks", "packnet", "history"} - set(header)
    if missing:
        raise ValueError(f"{path} is damaged: its header has no {sorted(missing)}")
    return Packed(str(path), header, tensors)
