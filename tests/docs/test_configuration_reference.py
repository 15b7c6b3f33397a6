"""The configuration reference is that of the configurations, and has every key that a run has."""

import importlib.util
from argparse import Namespace

import pytest
from omegaconf import DictConfig

from packnet_pl.configuration.compose import compose, without_hydra
from packnet_pl.configuration.help import GROUPS
from tests.support import ROOT

SCRIPT = ROOT / "docs" / "site" / "configuration_reference.py"


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("configuration_reference", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(config, prefix=""):
    for name in config:
        node = config._get_node(name)
        if isinstance(node, DictConfig) and not node._is_none() and len(node) and not node._is_interpolation():
            yield from leaves(node, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_page_is_what_the_script_writes(reference):
    assert reference.PAGE.read_text("utf-8") == reference.page(), f"run: python {SCRIPT.relative_to(ROOT)}"


def test_every_group_is_there(reference):
    assert set(GROUPS) <= set(reference.GROUPS)


def test_every_key_of_a_run_is_there(reference):
    found = {key.name for path in reference.CONF.rglob("*.yaml") for key in reference.keys(path.read_text("utf-8"))}
    config = without_hydra(compose(Namespace(config_dir=None, config_name=None), []))
    for leaf in leaves(config):
        # As a file of a group has it, without the group's own name; or inside of a value in braces.
        parts = leaf.split(".")
        tails = {".".join(parts[begin:end]) for begin in range(len(parts)) for end in range(begin + 1, len(parts) + 1)}
        assert tails & found or leaf in reference.GROUPS, leaf


def test_defaults_and_comments_are_as_written(reference):
    text = "# What it is.\na:\n  b: 1   # one\n  c: {d: 2}\ne: [x,\n  y]\nf: null\n"
    assert list(reference.keys(text)) == [
        ("a.b", "1", "one"),
        ("a.c", "{d: 2}", ""),
        ("e", "[x, y]", ""),
        ("f", "null", ""),
    ]
