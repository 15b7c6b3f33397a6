"""A checkpoint of torch.distributed.checkpoint is looked at before torch unpickles it."""

import pickle

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from packnet_pl.core import PackNet, load_sharded_state, sharded_state_dict
from packnet_pl.core.plain_shards import read_index


def of_data(tmp_path):
    """Returns a packnet, and the folder of a checkpoint of it."""
    packnet = PackNet(nn.Linear(3, 2))
    packnet.begin_task("a")
    optimizer = {"lr": 0.1, "betas": (0.9, 0.999), "fused": None, "name": "adam"}
    state = {"packnet": sharded_state_dict(packnet), "model": packnet.module.state_dict(), "optimizer": optimizer}
    dcp.save(state, checkpoint_id=tmp_path / "c", no_dist=True)
    return packnet, tmp_path / "c"


class RunsCode:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_what_torch_writes_is_data(tmp_path):
    packnet, folder = of_data(tmp_path)
    assert "packnet.plain" in read_index(folder).state_dict_metadata
    other = PackNet(nn.Linear(3, 2))
    load_sharded_state(other, folder)
    assert other.open_task == "a"
    assert torch.equal(other.owners["weight"], packnet.owners["weight"])


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("place", ["metadata", "beside the metadata"])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, place):
    packnet, folder = of_data(tmp_path)
    ran = tmp_path / "ran"
    metadata = folder / ".metadata"
    if place == "metadata":
        metadata.write_bytes(pickle.dumps(RunsCode(ran)))
    else:
        found = pickle.loads(metadata.read_bytes())
        found.planner_data = RunsCode(ran)
        metadata.write_bytes(pickle.dumps(found))
    with pytest.raises(ValueError, match=r"is damaged, or no index of a checkpoint: it names \w+\.open") as caught:
        load_sharded_state(packnet, folder)
    assert "\n" not in str(caught.value)
    assert not ran.exists()


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_truncated_description_is_one_line(tmp_path):
    packnet, folder = of_data(tmp_path)
    (folder / ".metadata").write_bytes((folder / ".metadata").read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"metadata is damaged, or no index of a checkpoint: "):
        load_sharded_state(packnet, folder)
