"""PackNet written from the paper (section 3) with plain lists: slow, short, and without the package's code.

Only the loss and its gradients come from torch. The optimizer is SGD with momentum and weight decay in plain floats,
each operation rounded to float32: with powers of two as hyper-parameters every product is exact and nothing is left
for a fused multiply-add to change, so the comparison with torch's SGD can be exact.
"""

import struct

import torch


def float32(number):
    return struct.unpack("f", struct.pack("f", number))[0]


class Reference:
    """``net`` is driven through lists: ``values`` and ``owners`` have one entry per weight, per parameter name."""

    def __init__(self, net, prunable, norms):
        self.net, self.norms = net, norms
        self.values = {name: parameter.detach().reshape(-1).tolist() for name, parameter in net.named_parameters()}
        self.owners = {name: [0] * len(self.values[name]) for name in prunable}
        self.task = 0

    def begin(self):
        self.task += 1
        for name, owners in self.owners.items():
            self.owners[name] = [self.task if owner == 0 else owner for owner in owners]

    def may_change(self, name):
        if name in self.owners:
            return [owner == self.task for owner in self.owners[name]]
        return [self.task == 1] * len(self.values[name])

    def fit(self, batches, loss, lr, momentum, weight_decay):
        velocity = {}
        for x, y in batches:
            for name, grad in self.gradients(x, y, loss).items():
                may_change = self.may_change(name)
                for i, value in enumerate(self.values[name]):
                    if not may_change[i]:
                        continue
                    step = float32(grad[i] + weight_decay * value)
                    if (name, i) in velocity:
                        step = float32(momentum * velocity[name, i] + step)
                    velocity[name, i] = step
                    self.values[name][i] = float32(value - lr * step)

    def prune(self, ratio):
        for name, owners in self.owners.items():
            mine = [i for i, owner in enumerate(owners) if owner == self.task]
            mine.sort(key=lambda i: abs(self.values[name][i]))
            for i in mine[: round(ratio * len(mine))]:
                self.values[name][i] = 0.0
                owners[i] = 0

    def prune_filters(self, ratio):
        """Whole filters: the weights of an output channel lie one after the other, ``size`` of them."""
        for name, owners in self.owners.items():
            channels = self.net.get_parameter(name).shape[0]
            size = len(owners) // channels
            places = {f: range(f * size, (f + 1) * size) for f in range(channels)}
            mine = [f for f in places if owners[places[f][0]] == self.task]
            mine.sort(key=lambda f: sum(self.values[name][i] ** 2 for i in places[f]))
            for f in mine[: round(ratio * len(mine))]:
                for i in places[f]:
                    self.values[name][i] = 0.0
                    owners[i] = 0

    def gradients(self, x, y, loss):
        self.show()
        self.net.train()
        if self.task > 1:
            for norm in self.norms:
                self.net.get_submodule(norm).eval()
        self.net.zero_grad()
        loss(self.net(x), y).backward()
        return {name: parameter.grad.reshape(-1).tolist() for name, parameter in self.net.named_parameters()}

    def answer(self, x, task):
        """What the network says as ``task``: weights of later tasks, and free ones, are zero."""
        seen = {
            name: [value if 0 < owner <= task else 0.0 for value, owner in zip(self.values[name], owners, strict=True)]
            for name, owners in self.owners.items()
        }
        self.show(seen)
        self.net.eval()
        with torch.no_grad():
            return self.net(x)

    @torch.no_grad()
    def show(self, seen=None):
        for name, parameter in self.net.named_parameters():
            parameter.copy_(torch.tensor({**self.values, **(seen or {})}[name]).reshape(parameter.shape))
