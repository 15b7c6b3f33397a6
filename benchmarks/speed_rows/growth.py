"""What grows with the number of tasks: VGG-16 with norms at half width, task 50 beside task 2, ratio 0.9."""

import io
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from packnet_pl import save_packed
from packnet_pl.choices import Keeping
from speed_rows.clock import Report, ratios, seconds
from speed_rows.growing import Growing

__all__ = ["measure", "state_bytes"]

LAST, WIDTH, ROUNDS = 50, 0.5, 7


def measure(quick: bool, report: Report, norm: Keeping) -> dict[str, list[float]]:
    """Returns row -> task 50 over task 2, in turns on two networks; and sizes over what cannot be left out."""
    return _measure(norm, "growth" if norm == "shared" else "growth-norms", quick, report)


def state_bytes(state: dict[str, Any]) -> int:
    """Returns the size of a state in a file of torch."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.tell()


def _measure(norm: Keeping, prefix: str, quick: bool, report: Report) -> dict[str, list[float]]:
    last, width, rounds = (4, 0.02, 1) if quick else (LAST, WIDTH, ROUNDS)
    old, new = (Growing("vgg16_bn", width, norm) for _ in range(2))
    for count in range(1, last):
        report(f"{prefix}: task {count} of {last}")
        old.finish_until(count)
    new.finish_until(1)

    def over(prepare: Callable[[Growing], object], action: Callable[[Growing], object], what: str) -> list[float]:
        found = []
        for number in range(rounds + 1):
            report(f"{prefix}: {what}, pair {number} of {rounds}")
            taken = {}
            for growing in (old, new) if number % 2 else (new, old):
                prepare(growing)
                taken[growing] = seconds(partial(action, growing))
            found.append(taken[old] / taken[new])
        return found[1:]

    found = {"begin": over(Growing.reload, Growing.begin, "begin")}
    for growing in (old, new):
        growing.reload()
        growing.open_next()
        growing.step()
    for what, action in (("step", Growing.step), ("evaluation", Growing.evaluate)):
        told = partial(_tell, report, f"{prefix}: {what}, ")
        found[what] = ratios(partial(action, old), partial(action, new), rounds, told)
    # Between two checkpoints lie steps.
    found["state"] = over(Growing.step, Growing.state_dict, "state")
    old.close()
    found["checkpoint"], found["packed"] = [_state_over_owners(old, norm)], [_file_over_content(old, norm)]
    return {f"{prefix}-{row}": values for row, values in found.items()}


def _tell(report: Report, before: str, text: str) -> None:
    report(before + text)


def _state_over_owners(growing: Growing, norm: Keeping) -> float:
    """Returns the bytes of the state over those of the owner maps and of the norms that tasks have of their own."""
    owners = sum(owner.numel() for owner in growing.packnet.owners.values())
    return state_bytes(growing.state_dict()) / (owners + _norm_bytes(growing, norm))


def _file_over_content(growing: Growing, norm: Keeping) -> float:
    """Returns the bytes of the packed file over those of owned values, the owners' entropy, norms and heads."""
    owned, bits = 0, 0.0
    for owner in growing.packnet.owners.values():
        counts: list[int] = torch.bincount(owner.flatten()).tolist()
        owned += owner.numel() - counts[0]
        bits -= sum(count * math.log2(count / owner.numel()) for count in counts if count)
    heads = _bytes(growing.model.heads.state_dict())
    shared = {k: t for k, t in growing.model.backbone.state_dict().items() if k not in growing.weights}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "packed.safetensors"
        save_packed(growing.model, file)
        return file.stat().st_size / (4 * owned + bits / 8 + heads + _bytes(shared) + _norm_bytes(growing, norm))


def _norm_bytes(growing: Growing, norm: Keeping) -> int:
    """Returns the bytes of all tasks' own norms: parameters and statistics."""
    if norm == "shared":
        return 0
    layers = [layer for layer in growing.model.backbone.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    return len(growing.packnet.tasks) * sum(_bytes(layer.state_dict()) for layer in layers)


def _bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
