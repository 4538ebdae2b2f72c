import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from bap_jax.audit import excess, tango
from bap_jax.audit.counts import Table


def make_table(seed=0, groups=6, size=200, rates=(0.08, 0.04)):
    random = np.random.default_rng(seed)
    n = random.poisson(size, groups) + 1
    harmed, helped, both_right, _ = random.multinomial(n, (*rates, 0.6, 0.4 - sum(rates))).T
    return Table(n, harmed, helped, both_right)


def test_the_excess_gap_is_the_group_against_the_others():
    table = make_table()
    rest = excess.others(table)
    share = table.n / table.n.sum()
    expected = (1 - share) * (excess.mean_loss(table) - excess.mean_loss(rest))
    np.testing.assert_allclose(excess.excess_gap(table), expected, atol=1e-15)


def test_the_standard_error_is_that_of_simulated_samples():
    n, rates = np.array([300, 500, 1200]), np.array([[0.1, 0.02], [0.04, 0.04], [0.02, 0.03]])
    shares = np.c_[rates, 1 - rates.sum(axis=1)]
    drawn = np.random.default_rng(0).multinomial(n, shares, (20_000, 3))
    table = Table(n, drawn[..., 0], drawn[..., 1], drawn[..., 2])
    simulated = excess.excess_gap(table).std(axis=0)
    expected = np.sqrt(np.mean(excess.standard_error(table) ** 2, axis=0))
    np.testing.assert_allclose(expected, simulated, rtol=0.02)


def test_limits_are_joined_as_in_newcombes_method(monkeypatch):
    """With Wilson's limits in place of Tango's, and no sample helped, this is Newcombe's method."""

    def wilson(which):
        def limit(harmed, helped, n, alpha):
            # Where the two models are swapped, the one to ask for is the other limit, negated.
            if np.any(helped):
                return -np.asarray(proportion_confint(helped, n, 2 * alpha, "wilson"))[1 - which]
            return np.asarray(proportion_confint(harmed, n, 2 * alpha, "wilson"))[which]

        return limit

    monkeypatch.setattr(tango, "lower_limit", wilson(0))
    monkeypatch.setattr(tango, "upper_limit", wilson(1))
    n, harmed = np.array([80, 200]), np.array([7, 9])
    table = Table(n, harmed, np.zeros(2, int), n - harmed)
    lower, upper = confint_proportions_2indep(7, 80, 9, 200, "newcomb", "diff", 0.1, False)
    share = 80 / 280
    assert excess.lower_limit(table, 0.05)[0] == pytest.approx((1 - share) * lower, abs=1e-12)
    assert excess.upper_limit(table, 0.05)[0] == pytest.approx((1 - share) * upper, abs=1e-12)


@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_p_values_are_the_level_whose_limit_is_the_tolerance(tolerance):
    table = make_table(seed=3, rates=(0.2, 0.02))
    table.harmed[0] += 25
    p = excess.p_values(table, tolerance)
    above = excess.excess_gap(table) > tolerance
    assert 0 < above.sum() < len(p) and p[0] < 0.01
    for group in np.flatnonzero(above):
        assert excess.lower_limit(table, p[group])[group] == pytest.approx(tolerance, abs=1e-9)
    np.testing.assert_array_equal(p[~above], 1)


def test_p_values_at_the_ends_of_the_range():
    table = Table(np.array([50, 50]), np.array([50, 0]), np.array([0, 50]), np.array([0, 0]))
    p = excess.p_values(table, 0.1)
    assert 0 < p[0] < 1e-12 and p[1] == 1


def test_several_tables_are_as_each():
    tables = [make_table(seed) for seed in range(4)]
    stacked = Table(*(np.stack(columns) for columns in zip(*tables, strict=True)))
    functions = (
        excess.excess_gap,
        excess.standard_error,
        lambda table: excess.lower_limit(table, 0.01),
        lambda table: excess.upper_limit(table, 0.01),
        lambda table: excess.p_values(table, 0.005),
    )
    for function in functions:
        single = [function(table) for table in tables]
        np.testing.assert_allclose(function(stacked), single, atol=1e-15)


@pytest.mark.smoke
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_holm_is_statsmodels(alpha):
    random = np.random.default_rng(0)
    rejected = 0
    for groups in (1, 12, 40):  # few, as statsmodels collects garbage in every call
        p = random.random(groups) ** 3
        expected = multipletests(p, alpha, "holm")[0]
        np.testing.assert_array_equal(excess.holm_rejects(p, alpha), expected)
        rejected += expected.sum()
    assert rejected > 2


def test_the_simultaneous_limit_exceeds_the_tolerance_exactly_where_holm_rejects_a_group():
    for seed in range(40):
        table = make_table(seed, rates=(0.1, 0.02))
        table.harmed[1] += 12
        found = excess.lower_limit(table, 0.05 / 6).max() > 0.02
        assert found == excess.holm_rejects(excess.p_values(table, 0.02), 0.05).any()
