"""Packed files are written piece by piece, and have the bytes that the library of their format writes."""

import pytest
import torch
from safetensors.torch import save

from packnet_pl.container.table import METADATA, TYPES
from packnet_pl.container.table_writing import begin_of_file
from packnet_pl.packed.spool import Spool
from packnet_pl.packed.tensor_bytes import bytes_of

TEXT = '{"name": "ä \\" \\n \x7f\x1f\t", "tasks": []}'


def tensors():
    kinds = [getattr(torch, kind) for kind, _ in TYPES.values()]
    for index, kind in enumerate(kinds):
        values = torch.arange(64 * (index % 3), dtype=torch.uint8).view(kind)
        yield f"{'zyxab'[index % 5]}/{index}", values
        yield f"ü{index}", torch.zeros(2, 3, 0).to(kind)
        yield f"scalar {index}", torch.ones(()).to(kind)


def test_all_types_shapes_and_names_are_in_the_library_s_order(tmp_path):
    expected = save(dict(tensors()), metadata={METADATA: TEXT})
    spool = Spool(tmp_path / "new" / "file")
    spool.update(tensors())
    begin, order = begin_of_file({n: (str(t.dtype)[6:], t.shape) for n, t in spool.items()}, TEXT)
    assert begin + b"".join(bytes_of(spool[name]) for name in order) == expected
    assert list((tmp_path / "new").iterdir()) == []  # it has no name


def test_what_waits_on_disk_is_what_was_put_there(tmp_path):
    spool = Spool(tmp_path / "file")
    for name, tensor in tensors():
        spool[name] = tensor
    for name, tensor in tensors():
        assert spool[name].dtype == tensor.dtype
        assert spool[name].shape == tensor.shape
        assert bytes(bytes_of(spool[name])) == bytes(bytes_of(tensor))
    assert len(spool) == len(dict(tensors()))
    del spool[name]
    assert name not in spool
    spool.clear()
    assert not list(spool)


def test_a_type_that_files_do_not_have_is_refused():
    with pytest.raises(ValueError, match="complex128"):
        begin_of_file({"a": ("complex128", (1,))}, "{}")
