"""Loads networks from packed files."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from packnet_pl.choices import KEEPINGS, Keeping, check_choice
from packnet_pl.container.header import narrow_shapes
from packnet_pl.container.packed_file import PackedFile, open_packed
from packnet_pl.core import PackNet
from packnet_pl.core.conversion import take_types_
from packnet_pl.models import Heads, TaskInfo
from packnet_pl.packed.backbone import build_packed_backbone, check_fits
from packnet_pl.packed.feature_statistics import FeatureStatistics
from packnet_pl.packed.narrow_tasks import check_narrow
from packnet_pl.packed.network import PackedNetwork
from packnet_pl.packed.parts import Packable
from packnet_pl.packed.tensors import Packed, below
from packnet_pl.packed.weights import decode_mask, unpack_owners, unpack_weights
from packnet_pl.text import as_line

__all__ = ["build_network", "load_packed", "packed_keeping", "packed_networks", "packed_statistics", "unpack_into"]


def load_packed(path: str | os.PathLike[str], *, backbone: nn.Module | None = None) -> PackedNetwork:
    """Loads the network of a packed file; no code in it is run.

    Args:
        path: What :func:`save_packed` wrote.
        backbone: The shared part with any weights, where the file does not name one that this version can build.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a packed file, of another format, damaged, or does not fit the backbone.
    """
    return build_network(open_packed(path), backbone)


def build_network(file: PackedFile, backbone: nn.Module | None = None) -> PackedNetwork:
    """Builds the network of an opened file.

    Args:
        file: From :func:`packnet_pl.container.open_packed`.
        backbone: As for :func:`load_packed`.

    Raises:
        ValueError: Likewise.
    """
    packed = Packed.of(file)
    # Outside of inference mode: what is made there could never be trained or written to again.
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        if backbone is None:
            backbone = build_packed_backbone(packed)
        heads, packnet = _fill(backbone, packed)
        networks = packed_networks(packed)
        if networks:
            _load(backbone, networks[packed.tasks[0]])
        return PackedNetwork(backbone, heads, packnet, networks, packed_statistics(packed))


def packed_keeping(packed: PackedFile) -> tuple[Keeping, Keeping]:
    """Returns whether norms, and whether biases, are "shared" or "per_task"."""
    state = packed.header["packnet"] or {}
    norm, bias = (check_choice(key, state.get(key, "shared"), KEEPINGS) for key in ("norm", "bias"))
    return norm, bias


def packed_networks(packed: Packed) -> dict[str, dict[str, Tensor]]:
    """Returns task -> tensors of its own backbone; nothing for a file whose tasks share one."""
    if packed.header["packnet"] is not None:
        return {}
    aliases = packed.header["aliases"]
    own = {task: below(f"copies/{number}/", packed.tensors) for number, task in enumerate(packed.tasks)}
    named = {task: {alias: v[name] for alias, name in aliases.items() if name in v} for task, v in own.items()}
    return {task: v | named[task] for task, v in own.items() if v}


def packed_statistics(packed: Packed) -> dict[str, FeatureStatistics]:
    """Returns task -> statistics of its features, of the tasks that have any.

    Raises:
        ValueError: If a variance in them is not above 0.
    """
    found = {task: below(f"which/{number}/", packed.tensors) for number, task in enumerate(packed.tasks)}
    with _fitting(packed):
        return {task: FeatureStatistics(**tensors) for task, tensors in found.items() if tensors}


def unpack_into(model: Packable, packed: Packed) -> None:
    """Loads the whole file into ``model``, which has no tasks yet, but for :func:`packed_networks`.

    Raises:
        ValueError: If the file does not fit its backbone, or owners are kept in one of them only.
    """
    if (model.packnet is None) != (packed.header["packnet"] is None):
        raise ValueError(f"{packed.path} and the network do not agree on whether tasks own weights")
    heads, packnet = _fill(model.backbone, packed)
    for name, info in heads.infos.items():
        values = heads[name].state_dict()
        _load(model.heads.add(name, info, num_features=values["weight"].shape[1]), values)
    for network in packed_networks(packed).values():
        take_types_(model.backbone, network)  # the same in all of them
    if model.packnet is not None and packnet is not None:
        model.packnet.load_state_dict(packnet.state_dict())


def _fill(backbone: nn.Module, packed: Packed) -> tuple[Heads, PackNet | None]:
    """Loads the shared part into ``backbone``; returns the heads, and the owners if tasks own weights."""
    header, narrow = packed.header, narrow_shapes(packed.header)
    features = {task: packed.stored[f"heads/{number}/weight"].shape[1] for number, task in enumerate(packed.tasks)}
    with _fitting(packed):
        check_fits(backbone.state_dict(), packed)
        for task, taken in features.items():
            has = getattr(backbone, "num_features", taken)
            if taken != has and (task not in narrow or taken > has):
                raise ValueError(f"its heads take {taken} features, the backbone has {has}")
    tensors = packed.tensors
    with _fitting(packed):
        heads = _heads(packed, max([*features.values(), getattr(backbone, "num_features", 0)]))
        if packed_networks(packed):
            return heads, None
        owners = {n: unpack_owners(layer, tensors[f"owners/{n}"]) for n, layer in header["weights"].items()}
        state = below("shared/", tensors)
        for name, layer in header["weights"].items():
            state[name] = unpack_weights(layer, tensors[f"values/{name}"], owners[name])
        _load(backbone, state | {alias: state[name] for alias, name in header["aliases"].items()})
        del state
        if header["packnet"] is None:
            return heads, None
        copies = {task: below(f"copies/{number}/", tensors) for number, task in enumerate(packed.tasks)}
        masks = _masks(packed, owners)
        maps = {"owners": owners, "copies": copies, **({"masks": masks} if masks else {})}
        packnet = PackNet.from_state(backbone, {**header["packnet"], **maps})
        packnet.verify()
        if header["backbone"] is not None:
            check_narrow(packnet, header, features)
    return heads, packnet


def _masks(packed: Packed, owners: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Returns task -> name -> which weights of earlier tasks it does not use, packed; only what there is."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, unused in packed.unused.items():
        for index, count in enumerate(unused):
            if count:
                coded = packed.tensors[f"masks/{index}/{name}"]
                of_task = found.setdefault(packed.tasks[index], {})
                of_task[name] = decode_mask(coded, owners[name], index + 1, count)
    return found


@contextmanager
def _fitting(packed: Packed) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{packed.path} does not fit the backbone or is damaged: {as_line(error)}") from error


def _heads(packed: Packed, num_features: int) -> Heads:
    heads = Heads(num_features)
    for number, entry in enumerate(packed.header["tasks"]):
        parts = below(f"heads/{number}/", packed.tensors)
        head = heads.add(entry["name"], TaskInfo.parse(entry), num_features=parts["weight"].shape[1])
        _load(head, parts)
    return heads


def _load(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Loads ``tensors`` in the types in which they were trained, which a new module need not have."""
    take_types_(module, tensors)
    module.load_state_dict(tensors)
