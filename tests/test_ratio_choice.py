"""Which prune ratio is chosen from trials, and which is tried next."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packnet_pl.capacity import forecast
from packnet_pl.configuration.task_settings import prune_ratios
from packnet_pl.ratio_choice import (
    RatioSearch,
    RatioTrial,
    chosen_ratio,
    is_within,
    least_ratio,
    next_ratio,
    paired_drop,
)


def search_with(measure, search):
    """All trials, where ``measure`` gives drop and standard error of a ratio."""
    trials = []
    while (ratio := next_ratio(trials, search)) is not None:
        trials.append(RatioTrial(ratio, *measure(ratio)))
        assert len(trials) <= 1 + search.trials
    return trials


searches = st.builds(
    RatioSearch,
    least=st.sampled_from([0.5, 0.6667, 0.75, 0.8, 0.9]),
    tolerance=st.floats(0, 5),
    trials=st.integers(1, 12),
)


@given(searches, st.floats(0, 1), st.floats(0, 3))
def test_bisection_finds_where_the_drop_passes_the_tolerance(search, threshold, error):
    """The drop is a step: none below the threshold, all above it."""
    trials = search_with(lambda ratio: (search.tolerance + error + (1 if ratio > threshold else -1), error), search)
    chosen = chosen_ratio(trials, search)
    if threshold < search.least:
        assert [trial.ratio for trial in trials] == [chosen] == [search.least]
        return
    assert search.least <= chosen <= max(threshold, search.least)
    # As near as halving comes, but for the rounding to four digits.
    assert min(threshold, 1.0) - chosen <= (1 - search.least) / 2**search.trials + 2e-4


@given(searches, st.data())
def test_whatever_is_measured_ratios_are_allowed_differ_and_end(search, data):
    trials = search_with(lambda _: data.draw(st.tuples(st.floats(-5, 10), st.floats(0, 3))), search)
    ratios = [trial.ratio for trial in trials]
    assert ratios[0] == search.least
    assert all(search.least <= ratio < 1 for ratio in ratios)
    assert len(set(ratios)) == len(ratios)
    chosen = chosen_ratio(trials, search)
    assert chosen in ratios
    kept = [trial for trial in trials if trial.ratio == chosen]
    assert is_within(kept[0], search.tolerance) or chosen == search.least


@given(searches, st.data())
def test_a_search_that_goes_on_from_its_trials_is_the_same(search, data):
    trials = search_with(lambda _: data.draw(st.tuples(st.floats(-5, 10), st.floats(0, 3))), search)
    for count, trial in enumerate(trials):
        assert next_ratio(trials[:count], search) == trial.ratio


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_the_drop_is_the_mean_of_differences_image_by_image(pairs):
    dense, retrained = zip(*pairs, strict=True)
    drop, error = paired_drop(dense, retrained)
    differences = [100.0 * (before - now) for before, now in pairs]
    assert drop == pytest.approx(100 * (sum(dense) - sum(retrained)) / len(pairs), abs=1e-9)
    assert error == pytest.approx(statistics.stdev(differences) / len(pairs) ** 0.5, abs=1e-9)


def test_known_numbers():
    # Of 100 images 3 were lost and 1 was won: 2 points, and no more noise than four images make.
    drop, error = paired_drop([True] * 3 + [False] + [True] * 96, [False] * 3 + [True] + [True] * 96)
    assert (drop, round(error, 2)) == (2.0, 2.0)
    assert is_within(RatioTrial(0.5, drop, error), 0.1)
    assert not is_within(RatioTrial(0.5, 2.1, 1.5), 0.5)
    assert paired_drop([True], [False]) == (100.0, 100.0)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("tasks", [1, 2, 4, 8])
def test_the_least_ratios_give_each_task_the_same_share(tasks, last):
    ratios = prune_ratios({"ratio": "auto", "last": last}, tasks)
    assert [ratio is None for ratio in ratios] == [*[False] * (tasks - 1), not last]
    owned = [share for share, _ in forecast([840_000], ratios)]
    assert max(owned) - min(owned) <= 840_000 * 5e-4
    free = 840_000 - sum(owned)
    assert abs(free - (owned[0] if last else 0)) <= 840_000 * 5e-4
    assert least_ratio(1) == 0.5
