"""Methods compared on the same samples: closed forms, the plain audit's numbers, coverage."""

import json

import numpy as np
import pytest

from bap_jax.audit import compare, compare_methods, resampled_spread, resampling, spread
from bap_jax.audit.counts import assessed_groups, of_samples
from bap_jax.audit.methods import _interval, _ratio
from bap_jax.errors import UserError

OPTIONS = {"tolerance": 0.02, "resamples": 200}


def random_bits(seeds=1, groups=5, size=80, flips=0.15, dense_right=0.9, seed=0):
    """Dense model `(sample,)`, sparse models `(seed, sample)`, names of groups."""
    rng = np.random.default_rng(seed)
    n = groups * size
    dense = rng.random(n) < dense_right
    sparse = np.where(rng.random((seeds, n)) < flips, ~dense, dense)
    return dense, sparse, np.repeat([f"g{i}" for i in range(groups)], size)


def test_one_seed_has_the_numbers_of_the_plain_audit():
    dense, (sparse,), groups = random_bits()
    other = random_bits(seed=1)[1]
    found = compare_methods({"a": sparse, "b": other}, dense, groups, **OPTIONS).methods[0]
    plain = compare(dense, sparse, groups, tolerance=0.02)
    assert found.accuracy.estimate == pytest.approx(plain.overall.sparse_accuracy)
    assert found.flip_rate.estimate == pytest.approx(plain.overall.flip_rate)
    assert found.max_excess_gap.estimate == pytest.approx(plain.max_excess_gap)
    assert (found.expected_by_chance, found.p_value) == (
        plain.chance.expected,
        plain.chance.p_value,
    )
    assert found.spread.estimate == pytest.approx(plain.spread, abs=1e-9)
    np.testing.assert_allclose(found.bayes_max, plain.bayes_max, rtol=1e-6)
    assert [row.name for row in found.groups] == [row.name for row in plain.groups]
    for name in ("n", "excess_gap", "lower", "upper", "shrunken"):
        values = [[getattr(row, name) for row in rows] for rows in (found.groups, plain.groups)]
        np.testing.assert_allclose(*values, atol=1e-9)


def test_several_attributes_are_those_of_the_plain_audit():
    dense, (sparse,), groups = random_bits(groups=6)
    groups = {"race": groups, "age": np.tile(["old", "young"], len(groups) // 2)}
    for group_by in ("race+age", "race*age"):
        found = compare_methods({"a": sparse}, dense, groups, group_by=group_by, **OPTIONS)
        plain = compare(dense, sparse, groups, group_by=group_by, tolerance=0.02)
        assert [row[:2] for row in found.methods[0].groups] == [row[:2] for row in plain.groups]
        assert found.methods[0].p_value == plain.chance.p_value


def test_averages_over_seeds_by_hand():
    dense = np.ones(120, bool)
    groups = np.repeat(["x", "y"], 60)
    sparse = np.ones((2, 120), bool)
    sparse[0, :12] = sparse[1, :6] = False  # of x, a fifth and a tenth
    (row,) = compare_methods({"a": sparse}, dense, groups, **OPTIONS).methods
    assert row.accuracy.estimate == pytest.approx(1 - 18 / 240)
    assert row.flip_rate.estimate == pytest.approx(18 / 240)
    assert [(group.name, group.excess_gap) for group in row.groups] == [
        ("x", pytest.approx(0.075)),
        ("y", pytest.approx(-0.075)),
    ]
    assert row.seeds == 2


def parts_and_data(dense, methods, groups):
    counts = of_samples(dense, methods[0][0], groups)
    cells = np.unique(groups, return_inverse=True)[1]
    parts = [assessed_groups(counts, part, 1) for part in counts.partitions]
    return parts, resampling.outcomes(cells, dense[None], methods)


def test_variance_of_averages_by_hand():
    dense, sparse, groups = random_bits(seeds=3, groups=3)
    parts, data = parts_and_data(dense, [sparse], groups)
    found = resampling.estimates(data, 0, data.count[None], parts)
    loss = (dense.astype(int) - sparse).mean(axis=0)
    inside = groups == "g1"
    expected = (1 - 1 / 3) ** 2 * (
        loss[inside].var() / inside.sum() + loss[~inside].var() / (~inside).sum()
    )
    assert found.variance[0, 1] == pytest.approx(expected)
    assert found.excess_gap[0, 1] == pytest.approx(loss[inside].mean() - loss.mean())


def test_resamples_scatter_as_the_formula_says():
    dense, sparse, groups = random_bits(seeds=1, groups=4, size=150)
    parts, data = parts_and_data(dense, [sparse], groups)
    gaps = [
        resampling.estimates(data, 0, drawn.counts, parts).excess_gap
        for drawn in resampling.draws(data, 4000, np.random.default_rng(0))
    ]
    variance = resampling.estimates(data, 0, data.count[None], parts).variance[0]
    np.testing.assert_allclose(np.concatenate(gaps).var(axis=0), variance, rtol=0.1)


def test_seeds_that_differ_by_their_samples_alone_add_nothing_on_average():
    scales = []
    for seed in range(30):
        dense, sparse, groups = random_bits(seeds=4, groups=5, seed=seed)
        parts, data = parts_and_data(dense, [sparse], groups)
        average = resampling.averages(data, 0, parts)
        scales.append(average.of_seeds / average.variance.mean())
    assert np.mean(scales) < 0.15


def test_seeds_that_harm_other_groups_add_variance():
    dense, groups = np.ones(2000, bool), np.repeat(["x", "y"], 1000)
    rates = np.array([[0.0, 0.2], [0.2, 0.0], [0.1, 0.1], [0.0, 0.2]])
    draws = np.random.default_rng(0).random((4, 2000))
    sparse = draws >= np.repeat(rates, 1000, axis=1)
    parts, data = parts_and_data(dense, [sparse], groups)
    average = resampling.averages(data, 0, parts)
    expected = np.array([-0.1, 0.1, 0.0, -0.1]).var(ddof=1) / 4
    assert average.of_seeds == pytest.approx(expected, rel=0.2)


def test_the_verdict_of_each_seed_is_that_of_the_plain_audit():
    groups = np.repeat(["a", "b", "c"], 200)
    dense = np.ones(600, bool)
    harmed = np.stack([dense, groups != "a", np.arange(600) % 5 != 0])
    found = compare_methods(
        {"all": harmed, "one": harmed[1]}, dense, groups, tolerance=0.03, resamples=100
    )
    plain = [compare(dense, row, groups, tolerance=0.03).verdict for row in harmed]
    assert plain == ["satisfied", "violated", "undecided"]
    assert [row.verdicts for row in found.methods] == [tuple(plain), ("violated",)]
    text = found.to_text()
    assert "  verdict             violated for 1, undecided for 1, satisfied for 1 seeds\n" in text
    assert "  verdict             violated\n" in text
    alike = compare_methods({"x": harmed[[1, 1]]}, dense, groups, tolerance=0.03, resamples=100)
    assert "  verdict             violated for every seed\n" in alike.to_text()


def test_identical_methods_do_not_differ():
    dense, sparse, groups = random_bits(seeds=3)
    found = compare_methods({"a": sparse, "b": sparse.copy()}, dense, groups, **OPTIONS)
    (row,) = found.differences
    for value in (row.bayes_max, row.flip_rate, row.accuracy):
        assert value == (0, 0, 0)
    assert row.spread_ratio == (1, 1, 1)


def test_a_method_without_flips():
    dense, _, groups = random_bits()
    (row,) = compare_methods({"same": dense}, dense, groups, **OPTIONS).methods
    assert row.flip_rate == row.spread == row.bayes_max == (0, 0, 0)
    assert row.p_value == 1


def test_a_clear_difference_is_clear():
    dense, good, groups = random_bits(seeds=2, flips=0.02, size=200)
    bad = good.copy()
    bad[:, groups == "g2"] &= np.random.default_rng(1).random((2, 200)) < 0.7
    found = compare_methods({"good": good, "bad": bad}, dense, groups, **OPTIONS)
    (row,) = found.differences
    assert (row.name, row.baseline) == ("bad", "good")
    assert row.bayes_max.lower > 0 and row.flip_rate.lower > 0 and row.accuracy.upper < 0
    assert row.spread_ratio.lower > 1
    found = compare_methods({"good": good, "bad": bad}, dense, groups, baseline="bad", **OPTIONS)
    assert found.differences[0].bayes_max.upper < 0


def test_each_seed_may_have_its_own_dense_network():
    dense, sparse, groups = random_bits(seeds=2)
    both = np.stack([dense, ~dense])
    sparse[1] = ~sparse[1]
    found = compare_methods({"a": sparse}, both, groups, **OPTIONS)
    flips = (both != sparse).mean()
    assert found.methods[0].flip_rate.estimate == pytest.approx(flips)
    assert found.dense_accuracy == pytest.approx(0.5)


def test_the_order_of_methods_changes_no_estimate():
    dense, sparse, groups = random_bits(seeds=2)
    other = random_bits(seeds=2, seed=1)[1]
    one = compare_methods({"a": sparse, "b": other}, dense, groups, **OPTIONS)
    two = compare_methods({"b": other, "a": sparse}, dense, groups, baseline="a", **OPTIONS)
    estimates = [[value.estimate for value in found.differences[0][2:]] for found in (one, two)]
    assert estimates[0] == estimates[1]
    assert one.differences[0][:2] == two.differences[0][:2] == ("b", "a")


def test_draws_of_the_largest_gap_follow_its_posterior():
    rng = np.random.default_rng(0)
    gaps, errors = rng.normal(0, 0.04, 12), np.full(12, 0.02)
    posterior = spread.posterior(gaps, errors)
    resampled = gaps + rng.normal(0, 0.02, (20_000, 12))
    squares = resampled_spread.spread_square(
        resampled_spread.recentred(resampled, gaps, errors**2), errors**2
    )
    draws = resampled_spread.draws_of_largest(posterior, resampled, squares, gaps, errors**2)
    found = (draws.mean(), *np.quantile(draws, [0.05, 0.95]))
    np.testing.assert_allclose(found, posterior.largest, atol=0.001)


def test_ratios_where_a_spread_is_zero():
    np.testing.assert_array_equal(
        _ratio(np.array([0, 1, 2.0]), np.array([0, 0, 4.0])), [1, np.inf, 0.5]
    )
    ratios = np.array([0.5, 1.0, np.inf, np.inf])
    assert _interval(1.0, ratios, 0.05) == (1.0, 0.5, np.inf)


def test_the_result_as_json_and_text():
    dense, sparse, groups = random_bits(seeds=2)
    found = compare_methods({"a": sparse, "b": sparse}, dense, groups, **OPTIONS)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["differences"][0]["accuracy"] == {"estimate": 0, "lower": 0, "upper": 0}
    assert "b against a: no difference." in found.to_text()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"correct": {}}, "a dict from the name of each method"),
        ({"correct": {"a": np.ones(9, bool)}}, "dense_correct: 400, a: 9 samples"),
        ({"correct": {"a": np.full(400, 2)}}, r"correct\['a'\] must hold True or False"),
        ({"correct": {"a": np.ones((1, 2, 3))}}, r"must have the shape \(sample,\) or"),
        ({"dense_correct": np.ones((3, 400))}, "every method needs as many"),
        ({"baseline": "c"}, "no method is called 'c'; known methods: a"),
        ({"resamples": 10}, "resamples must be at least 100"),
        ({"tolerance": 2}, "tolerance must be a fraction"),
        ({"min_group_size": 500}, "two groups"),
    ],
)
def test_mistakes(changes, text):
    dense, sparse, groups = random_bits()
    arguments = {"correct": {"a": sparse}, "dense_correct": dense, "groups": groups, **OPTIONS}
    with pytest.raises(UserError, match=text):
        compare_methods(**arguments | changes)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "of_seeds"), [(1, 0.0), (5, 0.02)])
def test_intervals_cover(seeds, of_seeds):
    """90 % intervals hold the truth in at least 82 % of 150 data sets, but for rare chance."""
    from scipy.special import ndtri

    rng, groups = np.random.default_rng(seeds), np.repeat(np.arange(15), 100)
    dense, inside, runs = np.ones(1500, bool), {}, 150
    for run in range(runs):
        shared, correct, gaps = rng.normal(size=1500), {}, {}
        for name in ("a", "b"):
            gap = rng.normal(0, 0.03, 15)
            gaps[name] = gap - gap.mean()
            rates = np.clip(0.12 + gaps[name] + rng.normal(0, of_seeds, (seeds, 15)), 0.001, 0.5)
            noise = np.sqrt(0.6) * shared + np.sqrt(0.4) * rng.normal(size=(seeds, 1500))
            correct[name] = noise >= ndtri(rates)[:, groups]
        found = compare_methods(correct, dense, groups, tolerance=0.02, resamples=400, seed=run)
        (row,) = found.differences
        truth = {name: (gap.max(), np.sqrt((gap**2).mean())) for name, gap in gaps.items()}
        expected = {
            "largest": (row.bayes_max, truth["b"][0] - truth["a"][0]),
            "ratio": (row.spread_ratio, truth["b"][1] / truth["a"][1]),
            "accuracy": (row.accuracy, 0.0),
            "spread": (found.methods[0].spread, truth["a"][1]),
        }
        for name, (value, true) in expected.items():
            inside[name] = inside.get(name, 0) + (value.lower <= true <= value.upper)
    assert min(inside.values()) / runs > 0.82, inside
