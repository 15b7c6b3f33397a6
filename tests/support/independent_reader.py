"""A reader of packed files made from docs/format.md alone: no torch, no safetensors, nothing of the package.

And ``reseal``, which changes a file and makes its checksums right again, as whoever tampers with one would.
"""

import hashlib
import json
import math
import struct
import zlib
from pathlib import Path

import numpy as np

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "U8": "u1", "BOOL": "?"}
NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "U8": "uint8"}


def read(path):
    """Returns the header and name -> array; bfloat16 comes as float32."""
    content = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    table = json.loads(content[8 : 8 + length])
    metadata = table.pop("__metadata__")
    text = metadata["packnet_pl"]
    header = json.loads(text)
    assert header["format"] in (1, 3, 4, 5)
    arrays = {}
    for name, entry in table.items():
        begin, end = entry["data_offsets"]
        data = content[8 + length + begin : 8 + length + end]
        if name == "checksum":
            assert data == hashlib.blake2b(text.encode(), digest_size=16).digest()
            continue
        expected = f"{NAMES[entry['dtype']]}:{hashlib.blake2b(data, digest_size=16).hexdigest()}"
        assert header["checksums"][name] == expected, name
        array = np.frombuffer(data, TYPES[entry["dtype"]]).reshape(entry["shape"])
        arrays[name] = (array.astype("<u4") << 16).view("<f4") if entry["dtype"] == "BF16" else array
    assert arrays.keys() == header["checksums"].keys()
    return header, arrays


def owners(header, arrays, name):
    """Returns the owner map, weight by weight."""
    layer = header["weights"][name]
    counts = layer["counts"]
    order = sorted((owner for owner, count in enumerate(counts) if count), key=lambda owner: (-counts[owner], owner))
    found = [None] * math.prod(layer["shape"])
    coded = arrays[f"owners/{name}"].tobytes()
    planes = zlib.decompress(coded) if coded else b""
    left = list(range(len(found)))
    for owner in order[:-1]:
        size = (len(left) + 7) // 8
        plane, planes = planes[:size], planes[size:]
        bits = [plane[place // 8] >> (7 - place % 8) & 1 for place in range(len(left))]
        for place, bit in zip(left, bits, strict=True):
            if bit:
                found[place] = owner
        left = [place for place, bit in zip(left, bits, strict=True) if not bit]
    assert not planes
    for place in left:
        found[place] = order[-1]
    return np.array(found, np.uint8).reshape(layer["shape"])


def unused(header, arrays, name, number):
    """Returns which weights of earlier tasks the ``number``-th task (from 0) does not use, as bools in a row."""
    owner = owners(header, arrays, name).reshape(-1)
    found = np.zeros(owner.size, bool)
    count = header["weights"][name].get("unused", [0] * len(header["tasks"]))[number]
    if not count:
        return found
    frozen = np.flatnonzero((owner != 0) & (owner <= number))
    coded = arrays[f"masks/{number}/{name}"].tobytes()
    plane = zlib.decompress(coded) if coded else b"\0" * ((frozen.size + 7) // 8)
    assert len(plane) == (frozen.size + 7) // 8
    bits = np.array([plane[place // 8] >> (7 - place % 8) & 1 for place in range(frozen.size)])
    # As of two owners: 0 is what is not used, 1 what is used, and the more frequent one comes first.
    is_used = bits == 1 if frozen.size - count > count else bits == 0
    if count == frozen.size:
        is_used = bits == 1
    found[frozen[~is_used]] = True
    assert found.sum() == count
    return found


def subnetwork(header, arrays, task):
    """Returns the state dict with which ``task`` computes: name -> array."""
    number = [entry["name"] for entry in header["tasks"]].index(task)
    state = {name.removeprefix("shared/"): array for name, array in arrays.items() if name.startswith("shared/")}
    prefix = f"copies/{number}/"
    state |= {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    for name, layer in header["weights"].items():
        owner = owners(header, arrays, name).reshape(-1)
        weight = np.zeros(owner.size, np.float32)
        weight[owner != 0] = arrays[f"values/{name}"]
        weight[owner > number + 1] = 0
        weight[unused(header, arrays, name, number)] = 0
        state[name] = weight.reshape(layer["shape"])
    state |= {alias: state[name] for alias, name in header["aliases"].items()}
    # A narrower task has the leading entries of each tensor.
    for name, shape in (header["packnet"] or {}).get("shapes", {}).get(task, {}).items():
        state[name] = state[name][tuple(slice(length) for length in shape)]
    return state


def reseal(path, header=None, tensors=None, target=None):
    """Writes a packed file again with its header or tensors changed by functions, and right checksums."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    found = load_file(path)
    found.pop("checksum", None)
    with safe_open(path, framework="pt") as file:
        content = json.loads(file.metadata()["packnet_pl"])
    if tensors:
        tensors(found)
    if isinstance(content.get("checksums"), dict):
        content["checksums"] = {name: _checksum(tensor) for name, tensor in found.items()}
    if header:
        content = header(content) or content
    text = json.dumps(content)
    digest = bytearray(hashlib.blake2b(text.encode(), digest_size=16).digest())
    found["checksum"] = torch.frombuffer(digest, dtype=torch.uint8)
    save_file(found, target or path, metadata={"packnet_pl": text})


def _checksum(tensor):
    import torch

    data = tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
    return f"{str(tensor.dtype).removeprefix('torch.')}:{hashlib.blake2b(data, digest_size=16).hexdigest()}"


def rewrite(path, change):
    """Changes the table of a packed file by a function, and nothing else: checksums may be wrong then."""
    content = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    table = json.loads(content[8 : 8 + length])
    change(table)
    text = json.dumps(table, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
