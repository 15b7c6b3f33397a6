"""A sample of the networks that benchmarks/networks.py tries: equal outputs to the bit, 95 % of the weights divided."""

import importlib
import sys

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:task 'second' and later ones cannot change")

NETWORKS = [
    ("torch", "nn.LSTM"),
    ("torch", "nn.GRUCell"),
    ("torch", "nn.MultiheadAttention, packed"),
    ("torch", "nn.MultiheadAttention, separate"),
    ("torch", "nn.TransformerEncoder"),
    ("torch", "nn.Bilinear"),
    ("timm", "test_vit"),
    ("timm", "efficientnet_cc_b0_4e"),
    ("torchvision", "lraspp_mobilenet_v3_large"),
    ("torchvision", "mnasnet0_5"),
    ("transformers", "bert"),
    ("transformers", "gpt2"),
    ("transformers", "mixtral"),
    ("transformers", "xlnet"),
    ("transformers", "unispeech"),
]


@pytest.fixture(scope="module")
def sweep():
    """What tries one network; the package is that of a script, and not installed."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield importlib.import_module("network_sweep.attempt")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.parametrize(("library", "name"), NETWORKS, ids=[name for _, name in NETWORKS])
def test_two_tasks_in_a_network_of_a_library(sweep, library, name):
    record = sweep.tried(library, name)
    assert record.kind == "holds", record.detail
    assert record.of_weights >= 0.95, record.shares["left"]
    assert 0.2 < record.moved <= 0.51  # half is the second task's; of that, what gets a gradient and is not zero
    assert record.published["owned"] > 0.25 * record.published["total"]


def test_the_page_counts_what_holds_and_names_what_does_not(sweep):
    page = importlib.import_module("network_sweep.page").page
    record = importlib.import_module("network_sweep.record").Record
    shares = {
        "total": 100,
        "owned": 90,
        "weights": 100,
        "left": {"layer.odd": (10, "multiplies")},
        "not_multiplying": {},
    }
    text = page(
        [
            record("timm", "good", "holds", "64 pixels", 1.0, {**shares, "owned": 100, "left": {}}),
            record("timm", "partly", "holds", "64 pixels", 1.0, shares),
            record("timm", "bad", "changed", "output 0 by 0.1", 1.0, shares),
            record("transformers", "none", "not built", "no class has this configuration", 1.0),
        ],
        {"torch": 0, "torchvision": 0, "timm": 5, "transformers": 1},
    )
    assert "| timm | 2 | 3 | 0 | 1 | 0 | 0 | 0 | 2 | 2 |" in text
    assert "| timm | bad | changed | output 0 by 0.1 |" in text
    assert "| timm | partly | 90.0% | 90.0% | `layer.odd` 10.0% (multiplies) |" in text
    assert "| transformers | none | not built | no class has this configuration |" in text
