"""Nothing is forgotten under any precision, and weights are not converted between tasks."""

import pytest
import torch

from tests.support.promise.checker import Promise, check_promise
from tests.support.promise.own_modules import OwnModule, loader, subject, trainer

pytestmark = pytest.mark.promise("Precision")

DTYPES = {"bf16-true": torch.bfloat16, "64-true": torch.float64}


def subject_of(precision, module):
    """Its data has the type that the precision wants; in mixed precision it is asked as it computes in the fit."""
    plain = subject(module, data=lambda task: loader(task, dtype=DTYPES.get(precision, torch.float32)))
    if not precision.endswith("-mixed"):
        return plain

    def ask(task):
        kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}[precision]
        with torch.autocast(module.device.type, kind):
            mixed = plain_ask(task)
        return [*mixed, *plain_ask(task)]

    plain_ask, plain.ask = plain.ask, ask
    return plain


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
def test_precision(precision):
    module = OwnModule()
    check_promise(subject_of(precision, module), precision, trainer=trainer(precision=precision))
    assert module.backbone.conv1.weight.dtype == DTYPES.get(precision, torch.float32)


@pytest.mark.promise("Precision", label="16-mixed on a GPU")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_precision_16_mixed():
    module = OwnModule()
    half = {"precision": "16-mixed", "accelerator": "gpu", "devices": 1, "max_epochs": 3}
    check_promise(
        subject_of("16-mixed", module.cuda()), "16-mixed", trainer=trainer(**half), between=lambda _: module.cuda()
    )


@pytest.mark.promise("Precision", status="refused")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(first, second, id=f"{first}, then {second}")
        for first, second in (
            ("bf16-true", "64-true"),
            ("32-true", "bf16-true"),
        )
    ],
)
def test_another_precision_for_the_second_task_is_refused(first, second):
    module = OwnModule()
    promise = Promise(subject_of(first, module), f"{first}, then {second}")
    promise.fit("a", trainer=trainer(precision=first))
    types = [str(DTYPES.get(precision, torch.float32)) for precision in (first, second)]
    promise.subject = subject_of(second, module)
    with pytest.raises(ValueError, match=f"(?s){types[0]}.*{types[1]}|{types[1]}.*{types[0]}"):
        promise.fit("b", trainer=trainer(precision=second))
    promise.subject = subject_of(first, module)
    promise.check(after="b, which was refused")
    module.packnet.verify()
    assert (module.packnet.tasks, module.packnet.open_task) == (["a"], None)
    promise.fit("c", trainer=trainer(precision=first))


@pytest.mark.promise("Precision", label="32-true and mixed precision in turns")
def test_mixed_precision_after_full_precision():
    """The weights stay what they are: only what is computed with them changes."""
    module = OwnModule()
    promise = Promise(subject(module), "precisions in turns")
    for task, precision in {"a": "32-true", "b": "bf16-mixed", "c": "32-true"}.items():
        promise.fit(task, trainer=trainer(precision=precision))
    module.packnet.verify()
