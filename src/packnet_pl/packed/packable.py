"""Checks that a network can be packed: tasks finished, and tensors of one type."""

from torch import Tensor

from packnet_pl.packed.parts import Packable, networks_of

__all__ = ["check_packable"]


def check_packable(parts: Packable, path: object, dtype: str | None) -> None:
    """Checks that a network can be packed.

    Args:
        parts: The network.
        path: Where it is to be saved, for messages.
        dtype: Of the weights that tasks own, or None.

    Raises:
        ValueError: Otherwise.
    """
    _check_tasks(parts, path)
    if parts.packnet is None and dtype is not None:
        raise ValueError(f"cannot save {path} as {dtype}: no task owns any weights; convert the network instead")
    extra = [name for name, value in parts.backbone.state_dict().items() if not isinstance(value, Tensor)]
    if extra:
        raise ValueError(
            f"cannot save {path}: {extra[0]} is extra state of a layer and no tensor, which the file cannot hold"
        )
    # Loaded, the network would have to compute in the type that its heads take.
    tensors = [*parts.backbone.state_dict().values(), *parts.heads.state_dict().values()]
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.is_floating_point()}
    if len(types) > 1 and getattr(parts.backbone, "builder", None) is not None:
        raise ValueError(
            f"cannot save {path}: its tensors are {' and '.join(sorted(types))}; convert backbone and heads to one type"
        )
    networks, tasks = networks_of(parts), list(parts.heads.infos)
    if networks and (parts.packnet is not None or list(networks) != tasks):
        raise ValueError(
            f"cannot save {path}: its networks are of {list(networks)}, and its heads of {tasks}; it "
            "needs one for each task, in the same order, and no weights that tasks share (packnet is None)"
        )


def _check_tasks(parts: Packable, path: object) -> None:
    packnet, tasks = parts.packnet, list(parts.heads.infos)
    if not tasks:
        raise ValueError(f"cannot save {path}: there is no task yet; fit one first")
    if packnet is None:
        return
    unfinished = [task for task in tasks if task not in packnet.tasks]
    if packnet.open_task is not None and packnet.open_task not in unfinished:
        unfinished.append(packnet.open_task)
    if unfinished:
        raise ValueError(f"cannot save {path}: tasks {unfinished} are not finished; fit them to their end first")
    if packnet.tasks != tasks:
        raise ValueError(f"cannot save {path}: heads are of the tasks {tasks}, and weights of {packnet.tasks}")
