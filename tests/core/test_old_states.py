"""States and packed files from before there were rules: the paper's holds on, and what stays frozen is said once."""

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models import VisionTransformer

from packnet_pl import PackNet, load_packed, save_packed
from packnet_pl.core.content_hash import is_hash
from tests.support.tiny import bits, same_bits

MADE = Path(__file__).parents[1] / "made_at_5b152f2" / "attention"


class Net(nn.Module):
    """Attention and an LSTM: sequences (N x L x 4) -> (N x L x 8)."""

    def __init__(self):
        super().__init__()
        encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.body = nn.Sequential(nn.Linear(4, 8), encoder, nn.LSTM(8, 8, batch_first=True))

    def forward(self, x):
        return self.body(x)[0]


class Backbone(nn.Module):
    num_features = 16

    def __init__(self):
        super().__init__()
        self.vit = VisionTransformer(image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32)
        self.vit.heads = nn.Identity()

    def forward(self, images):
        return self.vit(images)


def test_an_open_task_goes_on_by_the_paper_s_rule():
    saved = torch.load(MADE / "open.ckpt", weights_only=True)
    net = Net()
    net.load_state_dict(saved["state_dict"])
    packnet = PackNet(net)
    with pytest.warns(UserWarning, match="trained with prunable='paper', which stays: 3 parameter tensors") as found:
        packnet.load_state_dict(saved["packnet"])
    assert len(found) == 1
    packnet.resume_task()
    frozen = {
        name: bits(net.get_parameter(name)) for name in ("body.1.self_attn.in_proj_weight", "body.2.weight_hh_l0")
    }
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.randn(2, 5, 4)).square().mean().backward()
        packnet.mask_gradients_()
        optimizer.step()
        packnet.restore_()
    packnet.prune(0.5)
    packnet.finish_task()
    assert all(torch.equal(bits(net.get_parameter(name)), before) for name, before in frozen.items())
    net.eval()
    with packnet.subnetwork("a"), torch.no_grad():
        assert same_bits(net(saved["probe"]), saved["output"])
    assert packnet.state_dict()["prunable"] == "paper"


def test_a_packed_file_of_format_1_predicts_the_same_bits_and_is_saved_with_its_rule(tmp_path):
    with pytest.warns(UserWarning, match="trained with prunable='paper', which stays: 2 parameter tensors") as found:
        net = load_packed(MADE / "packed.safetensors", backbone=Backbone())
    assert len(found) == 1
    save_packed(net, tmp_path / "again.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = load_packed(tmp_path / "again.safetensors", backbone=Backbone())
    for network in (net, again):
        assert network.packnet.state.prunable == "paper"
        for task in ("cats", "cars"):
            probe = load_file(MADE / f"{task}.probe.safetensors")
            assert same_bits(network(probe["images"], task=task), probe["logits"])


def test_tasks_from_before_are_verified_by_their_hashes_and_new_ones_by_sums():
    saved = torch.load(MADE / "open.ckpt", weights_only=True)
    net = Net()
    net.load_state_dict(saved["state_dict"])
    before = PackNet(net, prunable="paper")
    before.load_state_dict(saved["packnet"])
    before.resume_task()
    before.prune(0.5)
    before.finish_task()
    state = before.state_dict()
    old, new = (state["fingerprints"][task] for task in ("a", "b"))
    assert old == saved["packnet"]["fingerprints"]["a"]
    assert all(is_hash(mark) for mark in old.values())
    assert not any(is_hash(mark) for mark in new.values())
    packnet = PackNet.from_state(net, state)
    packnet.verify()
    name, owner = next(iter(state["owners"].items()))
    for number, task in enumerate("ab", start=1):
        entry = tuple((owner == number).nonzero()[0])
        value = net.get_parameter(name)[entry].item()
        with torch.no_grad():
            net.get_parameter(name)[entry] += 1
        with pytest.raises(RuntimeError, match=rf"^{name} is not what it was when task '{task}' was finished"):
            packnet.verify()
        with torch.no_grad():
            net.get_parameter(name)[entry] = value
    packnet.verify()
