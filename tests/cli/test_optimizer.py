"""An optimizer that cannot make a step is refused before anything is started."""

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from packnet_pl.configuration.optimizer_check import check_optimizer
from packnet_pl.errors import UsageError
from packnet_pl.models import vgg_small
from tests.support import warm
from tests.support.commands import last_line
from tests.support.trainers import quiet

FUSED = {"fused": True}


class Odd(torch.optim.SGD):
    """One of a user's own, with an error in its step."""

    def step(self, closure=None):
        raise RuntimeError("an error of its own")


def check(name, precision="32-true", clip=None, **settings):
    target = f"{__name__}.{name}" if name == "Odd" else f"torch.optim.{name}"
    config = OmegaConf.create(
        {
            "optim": {"optimizer": {"_target_": target, "_partial_": True, **settings}, "gradient_clip": clip},
            "trainer": {"precision": precision},
        }
    )
    backbone = vgg_small()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    trainer = quiet(precision=precision, gradient_clip_val=clip)
    assert isinstance(trainer, pl.Trainer)
    try:
        check_optimizer(config, backbone, trainer)
    finally:
        assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
        assert all(parameter.grad is None for parameter in backbone.parameters())


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Adam", "Adagrad"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
def test_a_fused_optimizer_with_mixed_precision_and_clipping_is_refused(name, precision):
    said = f"trainer.precision is {precision} and optim.optimizer a fused {name}: Lightning clips no gradients then"
    with pytest.raises(UsageError, match=said):
        check(name, precision, 2.0, **FUSED)
    check(name, precision, **FUSED)
    check(name, precision, 2.0)


@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "64-true"])
def test_without_mixed_precision_a_fused_optimizer_may_clip(precision):
    check("AdamW", precision, 2.0, **FUSED)


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("AdamW", {"fused": True, "foreach": True}, "`fused` and `foreach` cannot be `True` together"),
        ("AdamW", {"capturable": True}, "If capturable=True, params and state_steps must be on supported devices"),
        ("AdamW", {"differentiable": True}, "a leaf Variable that requires grad"),
        ("Adam", {"betas": [1, 2]}, "Invalid beta parameter at index 0: 1"),
        ("SGD", {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
        ("Muon", {}, "Muon only supports 2D parameters"),
    ],
)
def test_what_an_optimizer_says_against_its_settings_or_the_weights_is_said_at_the_start(name, settings, reason):
    with pytest.raises(UsageError, match=f"optim.optimizer: {reason}"):
        check(name, **settings)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "LBFGS", "Adamax", "Rprop", "Odd"])
def test_others_are_left_alone(name):
    check(name)


@pytest.mark.slow
def test_plan_and_train_refuse_alike(tmp_path):
    words = ["debug=tiny", "optim=adamw", "+optim.optimizer.fused=true", "trainer.precision=bf16-mixed"]
    for program in ("packnet-plan", "packnet-train"):
        done = warm.run(program, *words, "hydra.run.dir=r", cwd=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert last_line(done.stderr).startswith(f"{program}: trainer.precision is bf16-mixed and optim.optimizer a fu")
    assert not (tmp_path / "r").exists()
