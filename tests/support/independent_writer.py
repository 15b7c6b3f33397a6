"""A writer of packed files made from docs/format.md alone: no torch, no safetensors, nothing of the package."""

import hashlib
import json
import struct
import zlib
from pathlib import Path

import numpy as np

TYPES = {"float32": "F32", "int64": "I64", "uint8": "U8"}


def digest(data):
    return hashlib.blake2b(data, digest_size=16)


def mark(array):
    return f"{array.dtype}:{digest(array.tobytes()).hexdigest()}"


def coded(owner, counts):
    """Returns the owner map as one zlib stream of planes."""
    order = sorted((number for number, count in enumerate(counts) if count), key=lambda n: (-counts[n], n))
    left, planes = owner.reshape(-1), b""
    for number in order[:-1]:
        planes += np.packbits(left == number).tobytes()
        left = left[left != number]
    coder = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(planes) + coder.flush() if len(order) > 1 else b""


def write(path, *, backbone, tasks, shared, weights, owners, heads, copies=(), norm="shared", bias="shared"):  # noqa: PLR0913
    """Writes a packed file.

    Args:
        path: Where to.
        backbone: Name and arguments.
        tasks: Their entries, in order.
        shared: Name -> array.
        weights: Name -> float32 array of the weights that are divided.
        owners: Name -> uint8 array of the same shape.
        heads: Per task weight and bias.
        copies: Per task name -> array, or nothing.
        norm: "shared" or "per_task".
        bias: Likewise.
    """
    names = [task["name"] for task in tasks]
    arrays = {f"shared/{name}": array for name, array in shared.items()}
    arrays |= {f"copies/{k}/{name}": array for k, own in enumerate(copies) for name, array in own.items()}
    layers = {}
    for name, weight in weights.items():
        counts = np.bincount(owners[name].reshape(-1), minlength=len(tasks) + 1).tolist()
        layers[name] = {"shape": list(weight.shape), "dtype": "float32", "counts": counts}
        arrays[f"values/{name}"] = weight[owners[name] != 0]
        arrays[f"owners/{name}"] = np.frombuffer(coded(owners[name], counts), np.uint8)
    for k, (weight, add) in enumerate(heads):
        arrays |= {f"heads/{k}/weight": weight, f"heads/{k}/bias": add}
    state = {"format": 3, "tasks": names, "open_task": None, "phase": None, "norm": norm, "bias": bias}
    state["prunable"] = "paper"
    state |= {"fingerprints": {name: {} for name in names}, "private": {}, "private_fingerprints": {}}
    header = {"format": 3, "backbone": backbone, "tasks": tasks, "packnet": state, "weights": layers, "aliases": {}}
    header |= {
        "parameters": None,
        "history": [],
        "recipe": None,
        "checksums": {name: mark(array) for name, array in arrays.items()},
    }
    text = json.dumps(header)
    arrays["checksum"] = np.frombuffer(digest(text.encode()).digest(), np.uint8)

    table, data = {"__metadata__": {"packnet_pl": text}}, b""
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].itemsize):
        end = len(data) + array.nbytes
        table[name] = {"dtype": TYPES[str(array.dtype)], "shape": list(array.shape), "data_offsets": [len(data), end]}
        data += array.tobytes()
    encoded = json.dumps(table).encode()
    encoded += b" " * (-len(encoded) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
