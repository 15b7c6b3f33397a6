"""Exports one task as a network of its own in formats of other programs; a file stays only if its logits are right."""

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from packnet_pl.files import replacing_unicode
from packnet_pl.models import TaskInfo, as_input, input_type
from packnet_pl.packed.network import PackedNetwork

__all__ = ["ENDINGS", "export_task"]

ENDINGS = {"torch": ".pt", "torch_export": ".pt2", "onnx": ".onnx"}
"""Formats of single tasks, and how their files usually end."""

_PROBE = 3
_TOLERANCE = 1e-4
_ROUNDINGS = 16
# Bytes of weights. Above 1.6e9 torch puts them into a second file, which has to lie beside the first for good.
_LARGEST_ONNX = 1_500_000_000
_TOO_LARGE = (
    "one ONNX file holds at most {most:,} bytes of weights, and the network has {size}; the formats torch and "
    "torch_export hold it"
)
_ONNX_TYPES = (torch.float32, torch.float16)

Predict = Callable[[Tensor], Tensor]


def export_task(network: PackedNetwork, task: str, path: str | os.PathLike[str], format: str) -> float:
    """Exports ``network.standalone(task)`` to a file.

    The file is read again and compared on random images, three and then one, before it replaces what is there.

    Args:
        network: With the task.
        task: Its name.
        path: Where to.
        format: "torch": a state dict, for ``torch.load(path, weights_only=True)``; "torch_export": for
            ``torch.export.load``; "onnx": input ``pictures``, output ``logits``. The last two take any number of
            images, and hold class names, mean and std as JSON (extra file ``packnet_pl.json``, metadata
            ``packnet_pl``). They take images in the type of the weights.

    Returns:
        The largest difference of a logit.

    Raises:
        ImportError: If a package that the format needs is not installed.
        ValueError: If there is no such task or format, the shape of its images is not known, ONNX cannot hold the
            network, or the logits of the file are others.
    """
    if format not in ENDINGS:
        raise ValueError(f"format is {format!r}; allowed are {list(ENDINGS)}")
    info = network.info(task)
    if not info.input_shape:
        raise ValueError(f"the file does not say what images task {task!r} takes: give add_task() an input_shape")
    module = network.standalone(task).cpu()
    if format == "onnx":
        _check_onnx(module)
    probe = as_input(torch.randn(_PROBE, *info.input_shape, generator=torch.Generator().manual_seed(0)), module)
    # Others may compute in single precision what the network computes in half.
    tolerance = max(_TOLERANCE, _ROUNDINGS * torch.finfo(probe.dtype).eps)
    write = {"torch": _write_state, "torch_export": _write_program, "onnx": _write_onnx}[format]
    largest = 0.0
    with replacing_unicode(path) as temporary, torch.no_grad(), _quiet():
        predict = write(module, probe, temporary, info)
        for images in (probe, probe[:1]):
            expected = network(images, task=task)
            found = predict(images)
            if found.shape != expected.shape:
                raise ValueError(f"the {format} file answers {list(found.shape)} instead of {list(expected.shape)}")
            difference = float((found - expected).abs().max())
            allowed = tolerance * max(1.0, float(expected.abs().max()))
            # Not the other way round: NaN is no small difference.
            if not difference <= allowed:
                raise ValueError(
                    f"the {format} file answers otherwise than the network, by {difference:.2g}: not written"
                )
            largest = max(largest, difference)
    return largest


def _write_state(module: nn.Module, probe: Tensor, path: Path, info: TaskInfo) -> Predict:
    torch.save(module.state_dict(), path)
    other = deepcopy(module)
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(torch.load(path, weights_only=True))
    return other


def _write_program(module: nn.Module, probe: Tensor, path: Path, info: TaskInfo) -> Predict:
    program = torch.export.export(module, (probe,), dynamic_shapes=_any_number(module))
    torch.export.save(program, path, extra_files={"packnet_pl.json": _about(info)})
    other: Predict = torch.export.load(path).module()
    return other


def _check_onnx(module: nn.Module) -> None:
    """Checks that one ONNX file can hold the network, and that it can be run to compare logits.

    Raises:
        ValueError: Otherwise.
    """
    kind = input_type(module)
    if kind not in _ONNX_TYPES:
        allowed = " and ".join(str(known).removeprefix("torch.") for known in _ONNX_TYPES)
        raise ValueError(
            f"the network computes in {str(kind).removeprefix('torch.')}, and ONNX files are written for {allowed}, "
            "which onnxruntime can check on a CPU; the formats torch and torch_export hold it"
        )
    size = sum(tensor.numel() * tensor.element_size() for tensor in [*module.parameters(), *module.buffers()])
    if size > _LARGEST_ONNX:
        raise ValueError(_TOO_LARGE.format(size=f"{size:,}", most=_LARGEST_ONNX))


def _write_onnx(module: nn.Module, probe: Tensor, path: Path, info: TaskInfo) -> Predict:
    import onnxruntime
    import onnxscript  # noqa: F401 (torch needs it, and says so at length)

    program = torch.onnx.export(
        module,
        (probe,),
        input_names=["pictures"],
        output_names=["logits"],
        dynamic_shapes=_any_number(module),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props["packnet_pl"] = _about(info)
    program.save(path)
    second = path.with_name(f"{path.name}.data")
    if second.exists():  # beside the weights there were constants that large
        second.unlink()
        raise ValueError(_TOO_LARGE.format(size="more than that", most=_LARGEST_ONNX))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"pictures": images.numpy()})[0])


def _any_number(module: nn.Module) -> Any:
    return ({0: torch.export.Dim("batch", min=1, max=1 << 20)},)


def _about(info: TaskInfo) -> str:
    return json.dumps(info.dump(), ensure_ascii=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the log messages of exporters: what counts is whether the logits agree."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
