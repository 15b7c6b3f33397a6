"""Optimizers as users write them, with all the liberties that they take."""

from collections import defaultdict

import torch
from torch.optim import SGD, Optimizer


class InPlace(Optimizer):
    """Writes to every parameter, with or without a gradient."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    def step(self, closure=None):
        loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.write(parameter)
        return loss

    def write(self, parameter):
        parameter.add_(torch.randn_like(parameter), alpha=0.01)


class ThroughData(InPlace):
    """Writes where autograd does not see it."""

    def write(self, parameter):
        parameter.data.add_(torch.randn_like(parameter), alpha=0.01)


class NewData(InPlace):
    """Gives each parameter another memory."""

    def write(self, parameter):
        parameter.data = parameter.data * 0.99 + 0.01 * torch.randn_like(parameter)


class MasterCopies(InPlace):
    """Keeps copies in double precision, trains those and writes them back: all entries, rounded."""

    def write(self, parameter):
        if parameter not in self.state:
            self.state[parameter] = {"master": parameter.detach().double() * (1 + 1e-6)}
        master = self.state[parameter]["master"]
        if parameter.grad is not None:
            master.sub_(parameter.grad, alpha=0.1)
        parameter.copy_(master)


class WithoutInit(Optimizer):
    """Derives from Optimizer without its constructor: it has no hooks, and torch would fail to add one."""

    def __init__(self, parameters):
        self.base = SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.01)
        self.param_groups, self.defaults, self.state = self.base.param_groups, {}, defaultdict(dict)

    def zero_grad(self, set_to_none=True):
        self.base.zero_grad(set_to_none)

    def step(self, closure=None):
        return self.base.step(closure)


class Duck:
    """Has what Lightning asks of an optimizer, and derives from nothing."""

    def __init__(self, parameters):
        self.param_groups = [{"params": list(parameters)}]
        self.defaults, self.state = {}, defaultdict(dict)

    def zero_grad(self, set_to_none=True):
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    def step(self, closure=None):
        loss = closure() if closure else None
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                if parameter.grad is not None:
                    moved = self.state[parameter].setdefault("moved", torch.zeros_like(parameter))
                    moved.mul_(0.9).add_(parameter.grad).add_(parameter, alpha=0.01)
                    parameter.sub_(moved, alpha=0.05)
        return loss

    def state_dict(self):
        return {}

    def load_state_dict(self, state_dict):
        pass


class SAM(Optimizer):
    """Sharpness-aware minimization: moves to the worst point nearby, and steps with the gradient found there.

    Source: Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021.
    """

    def __init__(self, parameters, rho=0.05):
        super().__init__(parameters, {"rho": rho})
        self.base = SGD(self.param_groups, lr=0.05, momentum=0.9, weight_decay=0.01)

    def params(self):
        return [p for group in self.param_groups for p in group["params"] if p.grad is not None]

    @torch.no_grad()
    def first_step(self):
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in self.params()])
        for parameter in self.params():
            self.state[parameter]["old"] = parameter.detach().clone()
            parameter.add_(parameter.grad + 1e-3, alpha=(self.param_groups[0]["rho"] / (norm + 1e-12)).item())
        self.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for parameter in self.params():
            parameter.copy_(self.state[parameter]["old"])
        self.base.step()
        self.zero_grad()

    def step(self, closure=None):
        raise AssertionError("SAM is stepped with first_step and second_step")
