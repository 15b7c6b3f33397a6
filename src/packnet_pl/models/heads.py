"""Heads: one output layer per task, with the task's classes and input, as predictions need them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from packnet_pl.choices import HEAD_STARTS, HeadStart, check_choice
from packnet_pl.counting import counted
from packnet_pl.names import check_class_names, mended_class_names
from packnet_pl.preparation import Preparation, cut_out_of

__all__ = ["HeadStart", "Heads", "TaskInfo", "head_values", "tasks_of"]


@dataclass(frozen=True)
class TaskInfo:
    """A task's classes, and the images that its head is made for.

    Attributes:
        num_classes: Number of logits, at least 2.
        class_names: One per class, each once and without control characters, or empty if unknown.
        input_shape: Channels, height, width of an image in pixels, or empty if unknown.
        mean: Per channel, subtracted from pixel values in [0, 1], or empty if unknown.
        std: Per channel, divides what is left, or empty if unknown.
        preparation: How an image file becomes pixels of this shape, or None if unknown.

    Raises:
        ValueError: If there are fewer than 2 classes, not one name per class, a name twice or one that cannot be
            shown, or the preparation gives another shape.
    """

    num_classes: int
    class_names: tuple[str, ...] = ()
    input_shape: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    preparation: Preparation | None = None

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"a task has {counted(self.num_classes, 'class')}; allowed is 2 or more")
        if self.class_names and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"{counted(len(self.class_names), 'class name')} given for {counted(self.num_classes, 'class')}"
            )
        check_class_names(self.class_names)
        if self.preparation is not None and self.preparation.input_shape != tuple(self.input_shape):
            raise ValueError(
                f"input_shape is {tuple(self.input_shape)}, and the preparation of images gives "
                f"{self.preparation.input_shape}; give both alike"
            )

    def dump(self) -> dict[str, Any]:
        """Returns it as a dict of primitives, lists and tuples."""
        prepared = None if self.preparation is None else self.preparation.dump()
        return {**asdict(self), "preparation": prepared}

    @classmethod
    def parse(cls, dumped: Mapping[str, Any]) -> "TaskInfo":
        """Parses what :meth:`dump` wrote, also in earlier versions.

        They knew the shorter side only, and let two classes have one name.

        Raises:
            ValueError: If it is something else.
        """
        shape = tuple(dumped["input_shape"])
        if "preparation" in dumped:
            prepared = None if dumped["preparation"] is None else Preparation.parse(dumped["preparation"])
        else:
            prepared = cut_out_of(shape, dumped.get("resize"))
        return cls(
            dumped["num_classes"],
            mended_class_names(dumped["class_names"]),
            shape,
            tuple(dumped["mean"]),
            tuple(dumped["std"]),
            prepared,
        )


class Heads(nn.Module):
    """The output layers by task name. Its modules are called ``head_0``, ``head_1``, ...: a name may hold a dot.

    ``heads["cubs"]`` and, for names that are identifiers, ``heads.cubs`` are the same layer.

    Args:
        num_features: Length of the feature vectors that new heads take: those of earlier tasks may take fewer, where
            the backbone has grown since.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.infos: dict[str, TaskInfo] = {}

    def add(
        self,
        task: str,
        info: TaskInfo,
        values: Mapping[str, Tensor] | None = None,
        num_features: int | None = None,
    ) -> nn.Linear:
        """Adds a head and returns it.

        Args:
            task: A new name.
            info: The classes and images of the task.
            values: Weight and bias to begin with; None: random (torch's defaults, from the global generator).
            num_features: Length of the feature vectors that it takes; None is that of new heads.

        Raises:
            ValueError: If the task has a head already.
        """
        self._check_new(task)
        head = nn.Linear(self.num_features if num_features is None else num_features, info.num_classes)
        if values is not None:
            head.load_state_dict(values)
        self.put(task, info, head)
        return head

    def put(self, task: str, info: TaskInfo, head: nn.Linear) -> None:
        """Adds an existing layer as the head of a task.

        Raises:
            ValueError: If the task has a head already.
        """
        self._check_new(task)
        self.add_module(f"head_{len(self.infos)}", head)
        self.infos[task] = info

    def key(self, task: str) -> str:
        """Returns the name of the module that is the head of ``task``.

        Raises:
            ValueError: If there is no such task.
        """
        if task not in self.infos:
            raise ValueError(f"task {task!r} has no head; there are {list(self.infos)}: add_task() makes one")
        return f"head_{list(self.infos).index(task)}"

    def _check_new(self, task: str) -> None:
        if task in self.infos:
            raise ValueError(f"task {task!r} has a head already; there are {list(self.infos)}: choose a new name")

    def __getitem__(self, task: str) -> nn.Module:
        return self.get_submodule(self.key(task))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # A task may be called like a module that is yet to come.
            if name in self.__dict__.get("infos", {}) and not name.startswith("head_"):
                return self[name]
            raise


def head_values(head: HeadStart, backbone: nn.Module, num_classes: int) -> dict[str, Tensor] | None:
    """Returns weight and bias that a head begins with, or None for random ones.

    Args:
        head: "new", or "pretrained": the classifier that the backbone lost when it got its pretrained weights.
        backbone: From a builder; with ``pretrained`` it has that classifier as ``pretrained_head``.
        num_classes: Number of logits.

    Raises:
        ValueError: If ``head`` is something else, there is no such classifier, or it has another number of classes.
    """
    if check_choice("head", head, HEAD_STARTS) == "new":
        return None
    values: dict[str, Tensor] | None = getattr(backbone, "pretrained_head", None)
    if values is None:
        raise ValueError(
            f"head='pretrained' was given, but this {type(backbone).__name__} came with no classifier: give it "
            "pretrained weights (pretrained=true, or a file that has the last layer too), or use head='new'"
        )
    classes = len(values["weight"])
    if classes != num_classes:
        raise ValueError(
            f"head='pretrained' was given: the pretrained classifier has {classes} classes, and the task has "
            f"{num_classes}; use head='new', or the data that the weights were trained on"
        )
    return values


def tasks_of(checkpoint: Mapping[str, Any], here: Mapping[str, TaskInfo]) -> dict[str, TaskInfo]:
    """Returns the tasks that a checkpoint has, in its order.

    Args:
        checkpoint: As Lightning loads it; "tasks" in it is task -> what :meth:`TaskInfo.dump` returned.
        here: The tasks that the module has already.

    Raises:
        ValueError: If there are none, or those that the module has are not among them or have other classes.
    """
    if "tasks" not in checkpoint:
        raise ValueError("the checkpoint holds no tasks: it was not written by a TaskClassifier")
    infos = {name: TaskInfo.parse(dumped) for name, dumped in checkpoint["tasks"].items()}
    for name, info in here.items():
        if name not in infos:
            raise ValueError(f"task {name!r} is not in the checkpoint, which has {list(infos)}: add it after loading")
        if info.num_classes != infos[name].num_classes:
            raise ValueError(
                f"task {name!r} has {counted(infos[name].num_classes, 'class')} in the checkpoint and "
                f"{info.num_classes} here"
            )
    return infos
