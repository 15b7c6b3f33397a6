from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from packnet_pl import PackNet
from packnet_pl.capacity import forecast

RATIOS = st.lists(st.floats(0, 0.99), min_size=1, max_size=4)


@given(RATIOS, st.sampled_from(["layer", "global"]))
def test_the_forecast_is_what_happens(ratios, scope):
    net = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 7, bias=False), nn.Linear(7, 1))
    packnet = PackNet(net)
    layers = [share.weights for share in packnet.summary().layers.values()]
    for number, (ratio, (owned, free)) in enumerate(zip(ratios, forecast(layers, ratios, scope=scope), strict=True)):
        if packnet.summary().total.free == 0:
            assert (owned, free) == (0, 0)
            continue
        packnet.begin_task(f"task {number}")
        packnet.prune(ratio, scope=scope)
        packnet.finish_task()
        total = packnet.summary().total
        assert (total.owned[f"task {number}"], total.free) == (owned, free)


def test_without_a_ratio_a_task_keeps_all_that_is_free():
    assert forecast([10, 3], [0.5, None]) == [(5 + 1, 5 + 2), (7, 0)]


def test_counts_follow_pythons_rounding_in_each_layer():
    assert forecast([5, 3], [0.5]) == [(3 + 1, 2 + 2)]
    assert forecast([5, 3], [0.5], scope="global") == [(4, 4)]
