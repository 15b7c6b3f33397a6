"""Calls back after every step of every optimizer, for which Lightning has no hook."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from torch import Tensor
from torch.utils.hooks import RemovableHandle

__all__ = ["StepWatch"]


class StepWatch:
    """Calls back after each step, with the parameters of the optimizer, until it is removed.

    torch's own post-hook fires once for each real step: not for one that a gradient scaler skips. An optimizer without
    it (one that is not torch's, or wraps another and never ran torch's constructor) gets its ``step`` wrapped.

    Args:
        optimizers: What the Trainer steps.
        after: Called with the parameters of the optimizer, or None where it does not list them.

    Attributes:
        seen: How many steps there were since it was last set to 0.
    """

    def __init__(self, optimizers: Sequence[Any], after: Callable[[list[Tensor] | None], None]) -> None:
        self.seen = 0
        self._after = after
        self._handles: list[RemovableHandle] = []
        self._wrapped: list[tuple[Any, Any]] = []
        for optimizer in optimizers:
            if getattr(getattr(type(optimizer), "step", None), "hooked", False):
                self._handles.append(optimizer.register_step_post_hook(lambda stepped, *_: self._stepped(stepped)))
            else:
                # A scheduler may have put a step of its own there.
                self._wrapped.append((optimizer, vars(optimizer).get("step")))
                optimizer.step = self._wrap(optimizer, optimizer.step)

    def remove(self) -> None:
        """Removes the hooks from the optimizers."""
        for handle in self._handles:
            handle.remove()
        for optimizer, step in self._wrapped:
            del optimizer.step
            if step is not None:
                optimizer.step = step
        self._handles, self._wrapped = [], []

    def _wrap(self, optimizer: Any, step: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(step)
        def stepped(*args: Any, **kwargs: Any) -> Any:
            result = step(*args, **kwargs)
            self._stepped(optimizer)
            return result

        return stepped

    def _stepped(self, optimizer: Any) -> None:
        self.seen += 1
        groups = getattr(optimizer, "param_groups", None)
        self._after(None if groups is None else [parameter for group in groups for parameter in group["params"]])
