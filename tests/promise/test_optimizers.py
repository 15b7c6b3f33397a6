"""Nothing is forgotten under any optimizer."""

from functools import partial

import pytest
import schedulefree
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from timm.optim import Lamb, Lion, Lookahead
from torch import nn, optim

from tests.support.cases import breadth
from tests.support.promise.checker import check_promise
from tests.support.promise.own_modules import (
    LinearNet,
    ManualModule,
    OwnModule,
    TwoBranches,
    WithValidation,
    subject,
    trainer,
)
from tests.support.promise.user_optimizers import SAM, Duck, InPlace, MasterCopies, NewData, ThroughData, WithoutInit

pytestmark = pytest.mark.promise("Optimizers")

PLAIN = {
    "SGD": partial(optim.SGD, lr=0.1),
    "SGD momentum": partial(optim.SGD, lr=0.05, momentum=0.9),
    "SGD Nesterov, weight decay": partial(optim.SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "SGD maximize": partial(optim.SGD, lr=0.01, momentum=0.9, maximize=True),
    "SGD foreach": partial(optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01, foreach=True),
    "SGD fused": partial(optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01, fused=True),
    "Adam": partial(optim.Adam, lr=0.01),
    "Adam weight decay": partial(optim.Adam, lr=0.01, weight_decay=0.01),
    "Adam amsgrad": partial(optim.Adam, lr=0.01, amsgrad=True),
    "Adam foreach": partial(optim.Adam, lr=0.01, weight_decay=0.01, foreach=True),
    "Adam fused": partial(optim.Adam, lr=0.01, weight_decay=0.01, fused=True),
    "AdamW": partial(optim.AdamW, lr=0.01, weight_decay=0.1),
    "AdamW foreach": partial(optim.AdamW, lr=0.01, weight_decay=0.1, foreach=True),
    "AdamW fused": partial(optim.AdamW, lr=0.01, weight_decay=0.1, fused=True),
    "RMSprop momentum, weight decay": partial(optim.RMSprop, lr=0.003, momentum=0.9, weight_decay=0.01, centered=True),
    "Adagrad": partial(optim.Adagrad, lr=0.05, weight_decay=0.01),
    "Adadelta": partial(optim.Adadelta, lr=1.0, weight_decay=0.01),
    "NAdam": partial(optim.NAdam, lr=0.01, weight_decay=0.01, decoupled_weight_decay=True),
    "RAdam": partial(optim.RAdam, lr=0.01, weight_decay=0.01),
    "Adamax": partial(optim.Adamax, lr=0.01, weight_decay=0.01),
    "ASGD": partial(optim.ASGD, lr=0.05, lambd=0.1, t0=1, weight_decay=0.01),
    "Adafactor": partial(optim.Adafactor, lr=0.02, weight_decay=0.1),
    "Rprop": partial(optim.Rprop, lr=0.005),
    "LBFGS": partial(optim.LBFGS, lr=0.05, max_iter=4),
    "LBFGS strong_wolfe": partial(optim.LBFGS, lr=1, max_iter=4, line_search_fn="strong_wolfe"),
    "timm Lion": partial(Lion, lr=0.003, weight_decay=0.1),
    "timm Lamb": partial(Lamb, lr=0.01, weight_decay=0.1),
}


MAIN = ("SGD momentum", "SGD Nesterov, weight decay", "Adam weight decay", "AdamW", "AdamW fused", "LBFGS", "timm Lion")


@pytest.mark.parametrize("optimizer", breadth(PLAIN, *MAIN))
def test_optimizer(optimizer):
    check_promise(subject(OwnModule(PLAIN[optimizer])), optimizer, trainer=trainer())


OF_USERS = {
    "user's own, writes in place without regard to gradients": InPlace,
    "user's own, writes through .data": ThroughData,
    "user's own, assigns .data": NewData,
    "user's own, writes back copies that it keeps in double precision": MasterCopies,
    "duck-typed, not derived from torch.optim.Optimizer": Duck,
    "derived from Optimizer without its constructor": WithoutInit,
    "AdamW over the parameters that need a gradient only": lambda parameters: optim.AdamW(
        [parameter for parameter in parameters if parameter.requires_grad], lr=0.01, weight_decay=0.1
    ),
    "timm Lookahead of SGD momentum": lambda parameters: Lookahead(
        optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.01), k=2
    ),
    "timm Lookahead of AdamW": lambda parameters: Lookahead(optim.AdamW(parameters, lr=0.01, weight_decay=0.1), k=2),
}


@pytest.mark.parametrize("optimizer", OF_USERS)
def test_optimizer_of_a_user(optimizer):
    check_promise(subject(OwnModule(OF_USERS[optimizer])), optimizer, trainer=trainer(max_epochs=2))


KEPT_ALIVE = {
    "SGD momentum": partial(optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01),
    "Adam": partial(optim.Adam, lr=0.01),
    "AdamW": partial(optim.AdamW, lr=0.01, weight_decay=0.1),
}


class KeepsOptimizer(OwnModule):
    """Returns the same optimizer, with all its state, for each fit."""

    kept = None

    def configure_optimizers(self):
        self.kept = self.kept or super().configure_optimizers()
        return self.kept


@pytest.mark.promise("Optimizers", label="one optimizer kept alive for all tasks")
@pytest.mark.parametrize("optimizer", KEPT_ALIVE)
def test_an_optimizer_that_is_kept_alive(optimizer):
    module = KeepsOptimizer(KEPT_ALIVE[optimizer])
    check_promise(subject(module), f"{optimizer} kept alive", trainer=trainer())
    assert module.kept.state, "it has no state that could move a weight"


class ScheduleFree(OwnModule):
    """Switches the optimizer as its documentation demands: it keeps other weights to evaluate than to train with."""

    def on_train_epoch_start(self):
        self.optimizers().train()

    def on_validation_epoch_start(self):
        self.optimizers().eval()

    def on_validation_end(self):
        # After the checkpoints of this validation were written.
        if not self.trainer.sanity_checking:
            self.optimizers().train()

    def on_train_epoch_end(self):
        self.optimizers().eval()

    def on_train_end(self):
        self.optimizers().eval()


SCHEDULE_FREE = {
    "SGDScheduleFree": partial(schedulefree.SGDScheduleFree, lr=0.1, weight_decay=0.1),
    "SGDScheduleFree, not foreach": partial(schedulefree.SGDScheduleFree, lr=0.1, weight_decay=0.1, foreach=False),
    "AdamWScheduleFree": partial(schedulefree.AdamWScheduleFree, lr=0.02, weight_decay=0.1),
}


@pytest.mark.parametrize("optimizer", SCHEDULE_FREE)
def test_schedule_free(optimizer, tmp_path):
    written = []

    def checkpoints():
        written.append(ModelCheckpoint(tmp_path / str(len(written)), filename="{step}", save_top_k=-1))
        return written[-1]

    check_promise(
        subject(ScheduleFree(SCHEDULE_FREE[optimizer]), data=WithValidation),
        optimizer,
        trainer=trainer(checkpoints, max_epochs=2, val_check_interval=2, enable_checkpointing=True),
    )
    assert all(len(list((tmp_path / str(number)).iterdir())) == 4 for number in range(len(written)))


class MuonModule(ManualModule):
    """Muon for the matrices of the shared part, AdamW for all else."""

    def configure_optimizers(self):
        matrices = [parameter for parameter in self.backbone.parameters() if parameter.ndim == 2]
        others = [parameter for parameter in self.parameters() if all(parameter is not matrix for matrix in matrices)]
        return [optim.Muon(matrices, lr=0.01, weight_decay=0.1), optim.AdamW(others, lr=0.01, weight_decay=0.1)]

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.promise("Optimizers", label="Muon for the matrices, AdamW for the rest (manual optimization)")
def test_muon():
    check_promise(subject(MuonModule(backbone=LinearNet())), "Muon", trainer=trainer())


class SAMModule(ManualModule):
    def configure_optimizers(self):
        return SAM(self.parameters())

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        self.manual_backward(self.loss(batch))
        optimizer.first_step()
        self.manual_backward(self.loss(batch))
        optimizer.second_step()


@pytest.mark.promise("Optimizers", label="SAM, stepped with first_step and second_step (manual optimization)")
def test_sam():
    # Nobody can see its steps: what is pruned is zero at the end of each batch.
    check_promise(subject(SAMModule()), "SAM", trainer=trainer(), strict=False)


class TwoOptimizers(ManualModule):
    """One optimizer for each branch."""

    def __init__(self):
        super().__init__(backbone=TwoBranches())

    def configure_optimizers(self):
        make = partial(optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01)
        left = make([*self.backbone.left.parameters(), *self.heads.parameters()])
        return [left, make(self.backbone.right.parameters())]

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()


class Toggles(TwoOptimizers):
    """Lets Lightning switch off the gradients of all but one optimizer's parameters."""

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            with optimizer.toggle_model():
                optimizer.zero_grad()
                self.manual_backward(self.loss(batch))
                optimizer.step()


class PastLightning(ManualModule):
    """Calls neither Lightning's backward nor the step that it wraps, several times in a batch."""

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers(use_pl_optimizer=False)
        for _ in range(2):
            optimizer.zero_grad()
            self.loss(batch).backward()
            optimizer.step()


class GraphBuiltBefore(TwoOptimizers):
    """Steps one optimizer between the forward and the backward pass for the other, which has no part in that graph."""

    def training_step(self, batch, batch_idx):
        left, right = self.optimizers()
        x, y = batch
        loss = nn.functional.cross_entropy(self.heads[self.task](self.backbone.left(x)), y)
        other = self.backbone.right(x).square().mean()
        for optimizer, graph in ((left, loss), (right, other)):
            optimizer.zero_grad()
            self.manual_backward(graph)
            optimizer.step()


class Clips(ManualModule):
    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        self.clip_gradients(optimizer, gradient_clip_val=0.1, gradient_clip_algorithm="norm")
        optimizer.step()


class StepsInBackward(ManualModule):
    """An optimizer for each parameter, stepped as soon as its gradient is there; Lightning knows of none."""

    def configure_optimizers(self):
        return None

    def on_train_start(self):
        make = partial(optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01)
        needed = [parameter for parameter in self.parameters() if parameter.requires_grad]
        own = {parameter: make([parameter]) for parameter in needed}

        def step(parameter):
            own[parameter].step()
            own[parameter].zero_grad()

        self.in_backward = [parameter.register_post_accumulate_grad_hook(step) for parameter in needed]

    def on_train_end(self):
        for hook in self.in_backward:
            hook.remove()

    def training_step(self, batch, batch_idx):
        self.manual_backward(self.loss(batch))


MANUAL = {
    "two optimizers in one module (manual optimization)": TwoOptimizers,
    "a graph built before another optimizer's step, backward after it (manual optimization)": GraphBuiltBefore,
    "clipping in manual optimization": Clips,
    "two optimizers with toggle_model (manual optimization)": Toggles,
    "loss.backward() and the plain optimizer's step, twice in a batch (manual optimization)": PastLightning,
    "an optimizer per parameter, stepped in backward hooks": StepsInBackward,
}


@pytest.mark.parametrize("way", MANUAL)
@pytest.mark.filterwarnings("ignore:.*returned `None`, this fit will run with no optimizer")
def test_manual_optimization(way):
    check_promise(
        subject(MANUAL[way]()),
        way,
        trainer=trainer(),
        strict=way != "an optimizer per parameter, stepped in backward hooks",
    )


class StepsByItself(OwnModule):
    """Overrides the step, as for a warm-up, and skips every third one."""

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        if batch_idx == 2:
            optimizer_closure()
        else:
            optimizer.step(closure=optimizer_closure)


class ChangesOptimizer(OwnModule):
    """Gives the Trainer another optimizer in the middle of a fit."""

    def on_train_batch_start(self, batch, batch_idx):
        if batch_idx == 2:
            self.trainer.optimizers = [optim.AdamW(self.parameters(), lr=0.01, weight_decay=0.1)]


@pytest.mark.promise("Optimizers", label="optimizer_step overridden, some steps skipped")
def test_an_overridden_step():
    check_promise(subject(StepsByItself()), "optimizer_step overridden", trainer=trainer())


@pytest.mark.promise("Optimizers", label="another optimizer given to the Trainer in the middle of a fit")
def test_another_optimizer_in_the_middle():
    # Nobody knows of its steps: what is pruned is zero at the end of each batch.
    check_promise(subject(ChangesOptimizer()), "another optimizer", trainer=trainer(), strict=False)


@pytest.mark.promise(None)
def test_the_graph_built_before_a_step_is_fine_without_packnet():
    """Else the row above would ask for more than torch gives."""
    module = GraphBuiltBefore()
    trainer(max_epochs=1)().fit(module, WithValidation("a").train_dataloader())
    assert torch.isfinite(next(module.backbone.right.parameters())).all()
