"""Statistics of features: Gaussians against plain loops, what they refuse, and which task they choose."""

import math

import pytest
import torch

from packnet_pl import load_packed, save_packed
from packnet_pl.models import TaskInfo
from packnet_pl.packed import FeatureStatistics, fit_statistics
from packnet_pl.packed.task_choice import choose_tasks, normalised_entropy, renormalised
from tests.support.independent_reader import reseal
from tests.support.packed_models import images, packed_model

DIMENSIONS = 3


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_features(classes=4, per_class=30, features=6, seed=0):
    """Classes whose centres lie apart, with more spread along some dimensions than along others."""
    labels = torch.arange(classes).repeat_interleave(per_class)
    centres = 5 * draw(classes, features, seed=seed + 1)
    return centres[labels] + draw(len(labels), features, seed=seed) * torch.linspace(0.2, 2, features), labels


def log_densities(of, features):
    """The mixture's log density of each row, with lists and loops, without the constant of all Gaussians."""
    directions, variances = of.directions.double().tolist(), of.variances.double().tolist()
    found = []
    for row in features.double().tolist():
        terms = []
        for mean in of.means.double().tolist():
            away = [x - m for x, m in zip(row, mean, strict=True)]
            along = [sum(a * d for a, d in zip(away, direction, strict=True)) for direction in directions]
            distance = sum(a * a for a in away) / variances[-1]
            for size, variance in zip(along, variances, strict=False):
                distance += size * size * (1 / variance - 1 / variances[-1])
            terms.append(-distance / 2)
        largest = max(terms)
        density = largest + math.log(sum(math.exp(term - largest) for term in terms) / len(terms))
        spread = sum(map(math.log, variances[:-1])) + (len(row) - len(directions)) * math.log(variances[-1])
        found.append(density - spread / 2)
    return torch.tensor(found, dtype=torch.float64)


def narrow(monkeypatch, directions):
    monkeypatch.setattr("packnet_pl.packed.feature_statistics.MOST_DIRECTIONS", directions)


@pytest.mark.parametrize("directions", [1, 2, DIMENSIONS, 6, 64])
def test_the_log_likelihood_is_that_of_plain_loops(monkeypatch, directions):
    narrow(monkeypatch, directions)
    features, labels = some_features()
    of = fit_statistics(features, labels, features[:0])
    assert of.directions.shape == (min(directions, 6), 6)
    rows = torch.cat([features[::7], draw(5, 6, seed=9) * 10])
    torch.testing.assert_close(of.log_likelihood(rows), log_densities(of, rows), rtol=1e-10, atol=1e-8)


def test_it_is_the_density_of_gaussians_with_one_covariance(monkeypatch):
    """With all directions, and means that float16 holds: against torch's own distribution."""
    features, labels = some_features()
    of = fit_statistics(features.round(), labels, features[:0])
    directions = of.directions.double()
    covariance = directions.T @ torch.diag(of.variances[:-1].double()) @ directions
    covariance += of.variances[-1].double() * (torch.eye(6) - directions.T @ directions)
    rows = features[::11].double()
    each = [torch.distributions.MultivariateNormal(mean.double(), covariance).log_prob(rows) for mean in of.means]
    expected = torch.stack(each).logsumexp(dim=0) - math.log(4) + 6 / 2 * math.log(2 * math.pi)
    torch.testing.assert_close(of.log_likelihood(rows), expected, rtol=1e-3, atol=1e-2)


def test_means_and_variances_are_those_of_plain_loops():
    features, labels = some_features(classes=3, per_class=9, features=4)
    of = fit_statistics(features, labels * 5 + 2, features[:0])  # classes 2, 7, 12: others had no image
    means = torch.stack([features[labels == label].double().mean(dim=0) for label in range(3)])
    torch.testing.assert_close(of.means.double(), means, rtol=1e-3, atol=1e-3)
    covariance = torch.zeros(4, 4, dtype=torch.float64)
    for row, label in zip(features.double(), labels.tolist(), strict=True):
        covariance += torch.outer(row - means[label], row - means[label]) / 27
    shrunk = 0.9 * covariance + 0.1 * covariance.trace() / 4 * torch.eye(4)
    directions = of.directions.double()
    found = directions.T @ torch.diag(of.variances[:-1].double()) @ directions
    torch.testing.assert_close(found, shrunk, rtol=2e-3, atol=2e-3)


def test_scores_are_in_deviations_of_the_images_held_out():
    features, labels = some_features()
    held_out, _ = some_features(seed=5)
    of = fit_statistics(features, labels, held_out)
    scores = of.scores(held_out)
    assert float(scores.mean()) == pytest.approx(0, abs=1e-5)
    assert float(scores.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_two_fits_have_the_same_bits():
    features, labels = some_features()
    one, other = (fit_statistics(features.clone(), labels.clone(), features[::2]) for _ in range(2))
    assert all(torch.equal(one.tensors()[part], other.tensors()[part]) for part in one.tensors())


@pytest.mark.parametrize(
    "features", [torch.zeros(4, 5), draw(1, 5), draw(4, 5), draw(3, 5) * 1e20, draw(4, 5) * 1e5], ids=str
)
def test_few_equal_or_large_features_have_finite_statistics(features):
    of = fit_statistics(features, torch.arange(len(features)), features[:1])
    assert all(bool(tensor.isfinite().all()) for tensor in of.tensors().values())
    assert bool(of.scores(features).isfinite().all())


def test_means_that_float16_cannot_hold_are_float32():
    features = draw(6, 4)
    assert fit_statistics(features, torch.arange(6) % 2, features).means.dtype == torch.float16
    assert fit_statistics(features + 1e5, torch.arange(6) % 2, features).means.dtype == torch.float32


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(bad):
    features, labels = some_features()
    features[3, 1] = bad
    with pytest.raises(ValueError, match="features that are finite"):
        fit_statistics(features, labels, features[:1])
    with pytest.raises(ValueError, match="features that are finite"):
        fit_statistics(features[4:], labels[4:], features[:4])
    with pytest.raises(ValueError, match="need images"):
        fit_statistics(features[:0], labels[:0], features[:0])


@pytest.mark.parametrize("part", ["variances", "scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_what_is_divided_by_is_above_zero(part, value):
    good = fit_statistics(*some_features(), draw(5, 6)).tensors()
    good[part][1] = value
    with pytest.raises(ValueError, match="not above 0"):
        FeatureStatistics(**good)


def test_images_are_normalised_as_another_task_says():
    was, now = TaskInfo(2, mean=(0.5, 0.1), std=(0.25, 0.5)), TaskInfo(2, mean=(0.2, 0.3), std=(0.1, 2.0))
    pixels = torch.rand(3, 2, 4, 4)
    given = (pixels - torch.tensor([0.5, 0.1])[:, None, None]) / torch.tensor([0.25, 0.5])[:, None, None]
    expected = (pixels - torch.tensor([0.2, 0.3])[:, None, None]) / torch.tensor([0.1, 2.0])[:, None, None]
    torch.testing.assert_close(renormalised(given, was, now), expected)
    assert renormalised(given, was, was) is given
    assert renormalised(given, was, TaskInfo(2)) is given


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A packed file with statistics of its first and last task, and these."""
    torch.manual_seed(0)
    model, path = packed_model(), tmp_path_factory.mktemp("statistics") / "packed.safetensors"
    save_packed(model, path)
    net = load_packed(path)
    groups = {task: images(30) * 0.3 + 3 * number for number, task in enumerate(net.tasks)}
    statistics = {
        task: fit_statistics(net.features(groups[task], task="latin"), torch.arange(30) % 2, images(0))
        for task in ("latin", "кириллица")
    }
    save_packed(model, path.with_name("with.safetensors"), statistics=statistics)
    return path, path.with_name("with.safetensors"), statistics, groups


def test_statistics_are_read_as_they_were_written(parts):
    _, path, statistics, _ = parts
    found = load_packed(path).statistics
    assert list(found) == list(statistics)
    for task, of in statistics.items():
        assert all(torch.equal(of.tensors()[part], tensor) for part, tensor in found[task].tensors().items())


def test_a_file_without_statistics_is_what_it_was(parts):
    without, path, _, _ = parts
    net, other = load_packed(without), load_packed(path)
    assert net.statistics == {}
    assert all(torch.equal(net(images(), task=task), other(images(), task=task)) for task in net.tasks)
    save_packed(other, path.with_name("again.safetensors"))
    assert path.with_name("again.safetensors").read_bytes() == without.read_bytes()


def test_without_statistics_the_surest_head_wins(parts):
    net = load_packed(parts[0])
    entropies = [normalised_entropy(net(images(), task=task)).tolist() for task in net.tasks]
    expected = [net.tasks[column.index(min(column))] for column in map(list, zip(*entropies, strict=True))]
    assert net.which_task(images()) == expected
    chosen = choose_tasks(net, dict.fromkeys(net.tasks, images()))
    assert [lead for _, lead in chosen] == pytest.approx(
        [sorted(column)[1] - min(column) for column in zip(*entropies, strict=True)]
    )


def test_with_statistics_the_task_that_fits_best_wins_and_others_have_what_fits_none(parts):
    _, path, statistics, groups = parts
    net = load_packed(path)
    for task in statistics:
        found = net.which_task(groups[task])
        assert found.count(task) > 25
        scores = {name: of.scores(net.features(groups[task], task="latin")) for name, of in statistics.items()}
        best = torch.stack(list(scores.values())).max(dim=0)
        for index, chosen in enumerate(found):
            fits = float(best.values[index]) >= -2
            assert chosen == (list(statistics)[int(best.indices[index])] if fits else "caltech 256 v1.5")
    assert set(net.which_task(groups["latin"] + 100)) == {"caltech 256 v1.5"}


def test_only_tasks_that_are_asked_about_are_chosen(parts):
    net = load_packed(parts[1])
    given = dict.fromkeys(["caltech 256 v1.5", "latin"], images())
    assert {task for task, _ in choose_tasks(net, given)} <= set(given)
    assert choose_tasks(net, {"latin": images() + 100}) == [("latin", None)] * 5


def test_statistics_of_an_unknown_task_or_another_network_are_not_written(parts, tmp_path):
    statistics = parts[2]
    with pytest.raises(ValueError, match="statistics were given of \\['greek'\\]"):
        save_packed(packed_model(), tmp_path / "a", statistics={"greek": statistics["latin"]})
    other = fit_statistics(*some_features(classes=2), draw(3, 6))
    with pytest.raises(ValueError, match="which go with no 8 features and 3 classes"):
        save_packed(packed_model(), tmp_path / "a", statistics={"latin": other})
    assert not (tmp_path / "a").exists()


HALF = torch.float16
CHANGES = {
    "one is missing": lambda t: t.pop("which/0/scale"),
    "all but one are missing": lambda t: [t.pop(f"which/2/{part}") for part in ("means", "directions", "variances")],
    "of no task": lambda t: t.update({"which/3/scale": torch.ones(2)}),
    "of no number": lambda t: t.update({"which/00/scale": torch.ones(2)}),
    "of no part": lambda t: t.update({"which/0/median": torch.ones(2)}),
    "too many classes": lambda t: t.update({"which/0/means": torch.ones(4, 8, dtype=HALF)}),
    "no class": lambda t: t.update({"which/0/means": torch.ones(0, 8, dtype=HALF)}),
    "other features": lambda t: t.update({"which/0/means": torch.ones(2, 7, dtype=HALF)}),
    "means of a type": lambda t: t.update({"which/0/means": torch.ones(2, 8, dtype=torch.int64)}),
    "too many directions": lambda t: t.update({"which/0/directions": torch.ones(9, 8, dtype=HALF)}),
    "a variance too few": lambda t: t.update({"which/0/variances": torch.ones(8)}),
    "variances of a type": lambda t: t.update({"which/0/variances": torch.ones(9, dtype=torch.float64)}),
    "a scale of three": lambda t: t.update({"which/0/scale": torch.ones(3)}),
    "NaN": lambda t: t["which/0/means"].view(-1)[:1].fill_(float("nan")),
    "infinity": lambda t: t["which/2/variances"][:1].fill_(float("inf")),
    "a variance of zero": lambda t: t["which/2/variances"][:1].fill_(0),
    "a deviation below zero": lambda t: t["which/0/scale"][1:].fill_(-1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_statistics_that_are_not_as_the_page_says_are_refused_in_one_line(parts, tmp_path, change):
    path = tmp_path / "packed.safetensors"
    path.write_bytes(parts[1].read_bytes())
    reseal(path, tensors=change)
    with pytest.raises(ValueError, match=r"which/|statistics of") as caught:
        load_packed(path)
    said = str(caught.value)
    assert str(path) in said
    assert said.isprintable()
    assert len(said.replace(str(path), "")) < 350


def test_large_statistics_choose_something(parts, tmp_path):
    """Finite numbers whose squares are not: no task fits, and none is an error."""
    path = tmp_path / "packed.safetensors"
    path.write_bytes(parts[1].read_bytes())
    reseal(path, tensors=lambda t: [t.update({f"which/{n}/means": torch.full((1, 8), 3e38)}) for n in (0, 2)])
    assert len(load_packed(path).which_task(images())) == 5
