"""Refuses compiled code with weights as constants, which never sees another task's weights."""

import sys
from typing import Any

from torch import nn

__all__ = ["check_weights_are_read"]


def check_weights_are_read(module: nn.Module) -> None:
    """Checks, as far as is known, that compiled code of ``module`` reads its weights anew in each call.

    Inductor's freezing (``torch._inductor.config.freezing``, or the option of ``torch.compile``) folds weights into the
    code. Packages that were compiled ahead of time, and files in other formats, keep weights of their own: nobody here
    knows of them.

    Raises:
        RuntimeError: If a part of it was compiled with freezing, or freezing is on where something was compiled.
    """
    inductor: Any = sys.modules.get("torch._inductor.config")
    if inductor is None:
        return  # nothing was compiled by it
    if inductor.freezing and getattr(sys.modules.get("torch._dynamo.convert_frame"), "FRAME_COUNTER", 0):
        raise RuntimeError(_advice("torch._inductor.config.freezing is on, and code was compiled"))
    for name, layer in module.named_modules():
        if _is_frozen(layer) or (inductor.freezing and _is_compiled(layer)):
            raise RuntimeError(_advice(f"{name or type(module).__name__} is compiled with inductor's freezing"))


def _advice(what: str) -> str:
    return (
        f"{what}: such code has weights as constants and answers for the task that it was compiled with, whatever is "
        "shown; compile without freezing, or one network per task (load_packed(...).standalone(task))"
    )


def _is_compiled(layer: nn.Module) -> bool:
    return layer._compiled_call_impl is not None or "get_compiler_config" in vars(layer)


def _is_frozen(layer: nn.Module) -> bool:
    ask = vars(layer).get("get_compiler_config") or getattr(layer._compiled_call_impl, "get_compiler_config", None)
    settings = ask() if ask is not None else None
    return bool(settings and settings.get("freezing"))
