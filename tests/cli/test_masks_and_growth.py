"""Networks with learned masks do not grow, and grown ones learn none: refused in one line before anything is built."""

import json

import pytest
import torch

from packnet_pl import load_packed
from packnet_pl.packed import read_packed
from packnet_pl.run.probe import load_probe
from tests.support import warm
from tests.support.commands import last_line

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

SMALL = ["debug=tiny", "debug.fraction=0.02", "optim.batch_size=16", "logger=none", "sequence.order=[digits,greek]"]
SMALL += ["arch.stages=[[4],[4]]", "arch.hidden=16", "prune.ratio=0.2"]
ADD = ["packed=made/packed.safetensors", "sequence.add=[latin]", "hydra.run.dir=run"]


def made(folder, *words):
    done = warm.run("packnet-train", *SMALL, *words, "hydra.run.dir=made", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    return made(tmp_path_factory.mktemp("masked"), "mask=learned", "mask.lr=10")


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    return made(tmp_path_factory.mktemp("grown"), "grow=1.25", "grow_below=0.9")


@pytest.mark.parametrize("program", ["packnet-train", "packnet-plan"])
@pytest.mark.parametrize(
    ("made", "words", "said"),
    [
        ("masked", ["mask=all", "grow=1.25", "grow_below=0.9"], "have learned masks, which fit one width only"),
        ("grown", ["grow=null", "mask=learned"], "has grown: masks fit one width only; give mask=all"),
    ],
)
def test_refused(request, program, made, words, said):
    folder = request.getfixturevalue(made)
    done = warm.run(program, *ADD, *words, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert said in last_line(done.stderr)
    assert "Traceback" not in done.stderr
    assert not (folder / "run").exists()


def test_a_packed_file_with_masks_learns_a_further_task_and_its_masks_stay(masked):
    before = read_packed(masked / "made/packed.safetensors")
    was = load_packed(masked / "made/packed.safetensors")
    done = warm.run("packnet-train", *SMALL[:4], *ADD[:2], "hydra.run.dir=on", cwd=masked)
    assert done.returncode == 0, done.stderr
    results = json.loads((masked / "on/results.json").read_text(encoding="utf-8"))
    assert results["settings"]["mask"] == "learned", "the file brings it along"
    assert results["outputs_unchanged"] == [None, None, True]  # the probes stay with the run that made them
    after, now = read_packed(masked / "on/packed.safetensors"), load_packed(masked / "on/packed.safetensors")
    assert after.header["format"] == before.header["format"] == 4
    assert list(now.tasks) == ["digits", "greek", "latin"]
    for task in was.tasks:
        kept = was.packnet.unused.get(task, {})
        assert now.packnet.unused.get(task, {}).keys() == kept.keys()
        assert all(torch.equal(now.packnet.unused[task][name], mask) for name, mask in kept.items())
        images, logits = load_probe(masked / f"made/tasks/{task}/probe.safetensors")
        assert torch.equal(now(images, task=task), logits)
    assert was.packnet.unused, "no task has a mask: there would be nothing to keep"
    assert now.packnet.unused["latin"]


def test_growth_that_is_not_due_is_allowed(masked):
    done = warm.run("packnet-plan", *ADD, "mask=all", "grow=1.25", "grow_below=0", cwd=masked)
    assert done.returncode == 0, done.stderr
    assert "grows for" not in done.stdout


def test_a_network_may_be_named_as_it_is(masked, grown):
    named = ["arch=vgg_small", "arch.stages=[[4],[4]]", "arch.hidden=16"]
    done = warm.run("packnet-plan", *ADD, *named, cwd=masked)
    assert done.returncode == 0, done.stderr
    for words in (["arch.width=2"], []):
        done = warm.run("packnet-plan", *ADD, *named, *words, cwd=grown)
        assert done.returncode == 2
        assert "leave arch out" in last_line(done.stderr)
