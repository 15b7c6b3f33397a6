"""Tries one network of a library, whatever happens: what is known afterwards is a record."""

import math
import time
import traceback
from collections.abc import Callable
from typing import Any

from torch import nn

from network_sweep import LIBRARIES
from network_sweep.network import NotTriedError
from network_sweep.record import Record
from network_sweep.trial import try_network
from packnet_pl import PackNet
from packnet_pl.core import is_weight

__all__ = ["tried"]


def tried(library: str, name: str) -> Record:
    """Builds a network, trains two tasks in it, and counts its parameters in published size."""
    began = time.monotonic()
    networks = LIBRARIES[library]()
    shares, moved = dict[str, Any](), math.nan
    try:
        outcome = try_network(networks.build(name), packnet_for)
        kind, detail, moved = outcome.kind, outcome.detail, outcome.moved
        shares = vars(outcome.shares) if outcome.shares else {}
    except NotTriedError as error:
        kind, detail = "not built", str(error)
    except MemoryError as error:
        kind, detail = "too large", str(error)
    except Exception as error:  # of any kind: networks of others
        kind = "failed" if _is_ours(error) else "does not train"
        detail = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    published = _published(lambda: networks.published(name)) if shares else {}
    return Record(library, name, kind, detail, round(time.monotonic() - began, 1), shares, moved, published)


def _is_ours(error: Exception) -> bool:
    """Returns whether code of packnet_pl was at work when it was raised, not the network's own."""
    return any("/packnet_pl/" in frame.filename for frame in traceback.extract_tb(error.__traceback__))


def packnet_for(module: nn.Module) -> PackNet:
    """Returns the PackNet that is measured: with the rule that it has if none is given."""
    return PackNet(module)


def _published(make: Callable[[], nn.Module]) -> dict[str, int]:
    """Returns the numbers of parameters, by the rule alone: PackNet takes no weights that have no values."""
    try:
        module = make()
    except Exception:  # of any kind: networks of others; the small size is shown then
        return {}
    owned = [
        parameter.numel()
        for name, parameter in module.named_parameters()
        if is_weight(name, module.get_submodule(name.rpartition(".")[0]), parameter)
    ]
    return {"total": sum(each.numel() for each in module.parameters()), "owned": sum(owned)}
