"""Checkpoints that hold more than plain data."""

import re
from argparse import Namespace
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy
import pytest
import torch
from omegaconf import OmegaConf

from packnet_pl.checkpoint_reading import check_plain, read_checkpoint
from packnet_pl.core import PackNet
from tests.support.tiny import TinyNet


def how_it_is_made(value):
    """Returns the name of the function that a pickle of ``value`` calls: of numpy, another one from 2.0 on."""
    function = value.__reduce__()[0]
    return f"{function.__module__}.{function.__name__}"


FOREIGN = {
    "omegaconf.dictconfig.DictConfig": OmegaConf.create({"rates": [0.1, 0.2], "name": "x"}),
    how_it_is_made(numpy.float64(0.1)): numpy.float64(0.1),
    how_it_is_made(numpy.arange(3)): numpy.arange(3),
    "pathlib.PosixPath": Path("data"),
    "functools.partial": partial(torch.nn.functional.relu, inplace=True),
    "argparse.Namespace": Namespace(lr=0.1),
}


def checkpoint(path, **hyperparameters):
    packnet = PackNet(TinyNet())
    packnet.begin_task("a")
    packnet.finish_task()
    torch.save({"packnet": packnet.state_dict(), "hyper_parameters": hyperparameters}, path)
    return packnet


@pytest.mark.parametrize("name", FOREIGN)
def test_a_type_that_is_no_plain_data_is_named_in_one_line_with_a_way_that_allows_it(tmp_path, name):
    path = tmp_path / "last.ckpt"
    packnet = checkpoint(path, cfg=FOREIGN[name])
    with pytest.raises(ValueError, match=rf"last\.ckpt holds .*read as plain data.*{re.escape(name)}") as refused:
        PackNet.from_checkpoint(packnet.module, path)
    said = str(refused.value)
    assert "\n" not in said
    with pytest.raises(ValueError, match=re.escape(said)):
        check_plain(path)
    # What it advises works as typed.
    (listed,) = re.findall(r"add_safe_globals\((\[.*\])\)$", said)
    names = {word.partition(".")[0] for word in re.findall(r"\b[a-z_]+(?:\.\w+)+", listed)}
    with torch.serialization.safe_globals(eval(listed, {name: import_module(name) for name in names})):
        assert PackNet.from_checkpoint(packnet.module, path).tasks == packnet.tasks
        check_plain(path)


def test_plain_hyperparameters_are_read(tmp_path):
    packnet = checkpoint(tmp_path / "last.ckpt", lr=0.1, names=["a"], sizes=(1, 2), nested={"a": None, "b": True})
    check_plain(tmp_path / "last.ckpt")
    assert PackNet.from_checkpoint(packnet.module, tmp_path / "last.ckpt").tasks == packnet.tasks


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_named_in_one_line(tmp_path, content):
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"^\S*last\.ckpt is damaged, or holds more than tensors[^\n]*$"):
        read_checkpoint(tmp_path / "last.ckpt")
