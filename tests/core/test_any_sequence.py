"""Any sequence of tasks divides the weights exactly."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from packnet_pl.core import CapacityError, PackNet
from tests.support.tiny import (
    bits,
    marked,
    plain_choice,
    same_bits,
)

small = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0]) | st.floats(-4, 4, width=32)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=3),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5),
    st.sampled_from(["layer", "global"]),
    st.data(),
)
def test_any_sequence_of_tasks_divides_the_weights_exactly(shapes, ratios, scope, data):
    packnet = PackNet(nn.ModuleList(nn.Linear(wide, high, bias=False) for wide, high in shapes))
    weights = {name: packnet.module.get_parameter(name) for name in packnet.owners}
    sizes = {name: weight.numel() for name, weight in weights.items()}
    for number, ratio in enumerate(ratios, start=1):
        if packnet.summary().total.free == 0:
            with pytest.raises(CapacityError):
                packnet.begin_task("too many")
            break
        before = {name: (owner, weights[name].detach().clone()) for name, owner in packnet.owners.items()}
        free = {name: marked(owner == 0) for name, (owner, _) in before.items()}
        packnet.begin_task(f"task{number}")
        with torch.no_grad():
            for name, weight in weights.items():
                values = data.draw(st.lists(small, min_size=sizes[name], max_size=sizes[name]))
                weight.copy_(torch.tensor(values).reshape(weight.shape))
        packnet.restore_()
        trained = {name: weight.detach().reshape(-1).tolist() for name, weight in weights.items()}
        packnet.prune(ratio, scope=scope)

        released = expected_releases(trained, free, ratio, scope)
        for name, owner in packnet.owners.items():
            old_owner, old_weight = before[name]
            mine = old_owner == 0
            assert marked(owner == number) == free[name] - released[name]
            assert marked(owner == 0) == released[name]
            assert torch.equal(owner[~mine], old_owner[~mine])
            assert same_bits(weights[name][~mine], old_weight[~mine])
            kept = torch.tensor([0.0 if i in released[name] else value for i, value in enumerate(trained[name])])
            assert same_bits(weights[name].reshape(-1), kept)
        if data.draw(st.booleans(), label="abort"):
            packnet.abort_task()
            assert all(torch.equal(owner, before[name][0]) for name, owner in packnet.owners.items())
            assert not any(bits(weights[name])[before[name][0] == 0].any() for name in weights)
            break
        packnet.finish_task()
        total = packnet.summary().total
        assert total.free + sum(total.owned.values()) == sum(sizes.values())
    packnet.verify()


def expected_releases(values, eligible, ratio, scope):
    if scope == "layer":
        return {
            name: plain_choice(
                values[name],
                [i in eligible[name] for i in range(len(values[name]))],
                round(ratio * len(eligible[name])),
            )
            for name in values
        }
    places = [(name, i) for name in values for i in range(len(values[name]))]
    mine = [i in eligible[name] for name, i in places]
    chosen = plain_choice([values[name][i] for name, i in places], mine, round(ratio * sum(mine)))
    return {name: {places[k][1] for k in chosen if places[k][0] == name} for name in values}
