"""Nothing is forgotten whatever weights are ranked by, and where tasks are pruned in steps while they are retrained."""

import pytest
from pytorch_lightning.callbacks import EMAWeightAveraging

from packnet_pl import PruneRule
from packnet_pl.core import movement, random, taylor
from tests.support.promise.checker import check_promise
from tests.support.promise.own_modules import OwnModule, subject, trainer

pytestmark = pytest.mark.promise("Scores and schedules")

RULES = {
    "movement": PruneRule(movement),
    "taylor, filters": PruneRule(taylor, granularity="filter"),
    "random, all layers together": PruneRule(random, "global"),
    "pruned gradually": PruneRule(schedule="gradual"),
    "taylor, pruned gradually over all layers": PruneRule(taylor, "global", schedule="gradual"),
}
SETTINGS = {
    "bf16-mixed": {"precision": "bf16-mixed"},
    "gradients accumulated over 2 batches, clipping": {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1},
}


def check(setting, rule, *callbacks, **settings):
    used, epochs = subject(OwnModule()), {"max_epochs": 3 if rule.schedule == "gradual" else 1, **settings}
    check_promise(used, setting, trainer=lambda *own: trainer(**epochs)(*own, *callbacks), rule=rule)
    assert used.module.packnet.state.accumulators is None


@pytest.mark.parametrize("rule", RULES)
def test_rules(rule):
    check(rule, RULES[rule])


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.promise("Scores and schedules", label="taylor, pruned gradually")
def test_settings(setting):
    check(setting, RULES["taylor, pruned gradually over all layers"], **SETTINGS[setting])


@pytest.mark.promise("Scores and schedules", label="pruned gradually, an average of the weights")
def test_average():
    rule = RULES["taylor, pruned gradually over all layers"]
    used = subject(OwnModule())
    check_promise(
        used,
        "an average",
        trainer=lambda *own: trainer(max_epochs=3)(*own, EMAWeightAveraging(decay=0.5)),
        rule=rule,
        strict=False,
    )
