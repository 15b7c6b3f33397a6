"""Individual networks, one for each task: the upper bound of many networks."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, get_args

from torch import Tensor, nn

from packnet_pl.choices import Phase, check_choice
from packnet_pl.core.slots import Slot, slots_of
from packnet_pl.core.subnetwork import shown
from packnet_pl.methods.unpruned import UnprunedClassifier
from packnet_pl.training.recipe import Recipe

__all__ = ["IndividualNetworks"]

Start = Literal["first_task", "backbone"]


class IndividualNetworks(UnprunedClassifier):
    """Fine-tunes a copy of one network for each task.

    Args:
        backbone: As for :class:`MultiHeadClassifier`.
        num_features: As for :class:`MultiHeadClassifier`.
        recipes: As for :class:`MultiHeadClassifier`.
        start: "first_task": every further task begins with the network of the first one, as in the PackNet paper,
            whose first task is the one that the network was pretrained on. "backbone": every task begins with the
            weights that ``backbone`` has now.
        retrain: Whether a second fit follows, as PackNet has one: with a recipe of its own, which may distil from the
            network as the first one left it.

    Attributes:
        networks: Finished task -> state dict of its backbone, on the CPU.

    Raises:
        ValueError: If ``start`` or ``retrain`` is something else.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_features: int | None = None,
        recipes: Mapping[Phase, Recipe] | None = None,
        start: Start = "first_task",
        retrain: bool = False,
    ) -> None:
        super().__init__(backbone, num_features=num_features, recipes=recipes)
        check_choice("start", start, get_args(Start))
        if not isinstance(retrain, bool):
            raise ValueError(f"retrain is {retrain!r}; allowed are True and False")
        self.start: Start = start
        self.phases = ("train", "retrain") if retrain else ("train",)
        self.networks: dict[str, dict[str, Tensor]] = {}
        self._given = _values(backbone)

    def select_task(self, name: str) -> None:
        """Loads the weights that task ``name`` begins with, or has reached, into the backbone."""
        super().select_task(name)
        first = next(iter(self.networks.values()), self._given) if self.start == "first_task" else self._given
        self.backbone.load_state_dict(self.networks.get(name, first))

    def finished_view(self, task: str) -> AbstractContextManager[None] | None:
        """Returns a context in which the backbone is the network of ``task``; None if it is not finished."""
        return shown(self._slots, {}, 1, self.networks[task]) if task in self.networks else None

    def begin_fit(self) -> None:
        """Refuses a task that is finished.

        Raises:
            ValueError: If it is.
        """
        if self.selected_task in self.networks:
            raise ValueError(
                f"task {self.selected_task!r} has a network that is trained to its end; finished are "
                f"{list(self.networks)}: choose a new name"
            )

    def on_fit_end(self) -> None:
        """Stores the network of the selected task when its last phase ends."""
        assert self.selected_task is not None
        if self.phase == self.phases[-1]:
            self.networks[self.selected_task] = _values(self.backbone)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the finished networks."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["networks"] = self.networks

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Loads the finished networks from the checkpoint."""
        networks: Mapping[str, Mapping[str, Tensor]] = checkpoint.get("networks", {})
        self.networks = {task: dict(values) for task, values in networks.items()}
        super().on_load_checkpoint(checkpoint)

    def _slots(self) -> dict[str, Slot]:
        return {name: slot for name, slot in slots_of(self.backbone) if slot.is_saved}


def _values(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
