"""Calls back at two moments of a sharded fit for which Lightning has no hook.

Strategies that divide parameters among processes load a checkpoint last: after the optimizers were made and
``on_fit_start`` was called. But what is loaded decides which parameters learn, and which heads there are.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from packnet_pl.checkpoint_reading import read_checkpoint
from packnet_pl.sharded_files import check_has_all
from packnet_pl.training.sharded_strategy import REST, ShardedStrategy, checkpoint_folder

__all__ = ["StrategyHooks", "loads_late"]


def loads_late(trainer: pl.Trainer) -> bool:
    """Returns whether a checkpoint is loaded after the network was divided, the optimizers made and the fit started."""
    return trainer.strategy.restore_checkpoint_after_setup


class StrategyHooks:
    """Calls back before the strategy makes optimizers, or loads a checkpoint, until it is removed.

    Args:
        trainer: Of the fit.
        before_optimizers: Called when the network has its last form.
        before_loading: Called with the folder or file of a checkpoint, and what is beside the tensors in it; what it
            returns is called when weights and optimizers are loaded.
    """

    def __init__(
        self,
        trainer: pl.Trainer,
        *,
        before_optimizers: Callable[[], None] | None = None,
        before_loading: Callable[[Path, Mapping[str, Any]], Callable[[], None] | None] | None = None,
    ) -> None:
        self._strategy: Any = trainer.strategy
        self._before: dict[str, Any] = {}
        if before_optimizers is not None:
            self._wrap("setup_optimizers", lambda *_: before_optimizers())
        if before_loading is not None:
            self._wrap("load_checkpoint", lambda path, *_: before_loading(*self._read(path)))

    def remove(self) -> None:
        """Removes the hooks from the strategy."""
        for name, before in self._before.items():
            if before is None:
                vars(self._strategy).pop(name, None)
            else:
                setattr(self._strategy, name, before)
        self._before = {}

    def _read(self, path: Any) -> tuple[Path, Mapping[str, Any]]:
        given = Path(self._strategy.broadcast(path))
        found = checkpoint_folder(given)
        if found != given and not isinstance(self._strategy, ShardedStrategy):
            check_has_all(given, read_checkpoint(given))
        return found, read_checkpoint(found / REST if found.is_dir() else found)

    def _wrap(self, name: str, before: Callable[..., Callable[[], None] | None]) -> None:
        self._before[name] = vars(self._strategy).get(name)
        wrapped = getattr(self._strategy, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            after = before(*args, *kwargs.values())
            result = wrapped(*args, **kwargs)
            if after is not None:
                after()
            return result

        setattr(self._strategy, name, called)
