import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special
from statsmodels.stats.contingency_tables import mcnemar

from bap_jax.audit import tango

counts = st.tuples(*3 * [st.integers(0, 60)]).filter(any)


def test_the_published_example():
    """Fagerland, Lydersen, Laake 2014: airway hyper-responsiveness before and after transplant."""
    assert tango.lower_limit(1, 7, 21, 0.025) == pytest.approx(-0.517, abs=5e-4)
    assert tango.upper_limit(1, 7, 21, 0.025) == pytest.approx(-0.026, abs=5e-4)


@given(counts, st.floats(-0.99, 0.99))
def test_the_restricted_estimate_has_the_largest_likelihood(table, difference):
    harmed, helped, same = table
    n = sum(table)

    def minus_log_likelihood(share_helped):
        share_harmed = share_helped + difference
        shares = np.clip([share_harmed, share_helped, 1 - share_harmed - share_helped], 0, 1)
        return -special.xlogy([harmed, helped, same], shares).sum()

    low, high = max(0.0, -difference), (1 - difference) / 2
    best = optimize.minimize_scalar(
        minus_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
    )
    variance = tango.restricted_variance(harmed, helped, n, difference)
    found = (variance - difference * (1 - difference)) / 2
    assert low - 1e-9 <= found <= high + 1e-9
    assert minus_log_likelihood(found) <= best.fun + 1e-7


@given(counts)
def test_the_score_of_no_difference_is_mcnemars(table):
    harmed, helped, same = table
    if harmed + helped:
        square = [[same, harmed], [helped, 0]]
        expected = mcnemar(square, exact=False, correction=False).statistic
        assert tango.score(harmed, helped, sum(table), 0.0) ** 2 == pytest.approx(expected)


@given(counts, st.sampled_from([0.4, 0.05, 0.0005]))
def test_limits_are_the_roots_of_the_score(table, alpha):
    harmed, helped, _ = table
    n = sum(table)
    z = tango.normal_quantile(alpha)
    lower = tango.lower_limit(harmed, helped, n, alpha)
    upper = tango.upper_limit(harmed, helped, n, alpha)
    assert -1 <= lower <= (harmed - helped) / n <= upper <= 1
    if harmed < n:
        assert tango.score(harmed, helped, n, upper) == pytest.approx(-z, abs=1e-6)
    if helped < n:
        assert tango.score(harmed, helped, n, lower) == pytest.approx(z, abs=1e-6)


@pytest.mark.parametrize("n", [1, 30, 1000])
def test_without_flips_the_limit_is_that_of_no_event(n):
    z = tango.normal_quantile(0.05)
    assert tango.upper_limit(0, 0, n, 0.05) == pytest.approx(z**2 / (n + z**2), rel=1e-9)
    assert tango.lower_limit(0, 0, n, 0.05) == pytest.approx(-(z**2) / (n + z**2), rel=1e-9)


def test_where_all_flip_one_way_a_limit_is_the_end_of_the_range():
    assert tango.upper_limit(40, 0, 40, 0.05) == 1
    assert tango.lower_limit(0, 40, 40, 0.05) == -1
    assert tango.lower_limit(40, 0, 40, 0.05) < 1


def test_arrays_are_as_their_entries():
    harmed, helped, n = np.array([[1, 0, 3], [7, 2, 2]]), np.array([[7, 0, 1], [1, 2, 0]]), 21
    single = [
        tango.upper_limit(b, c, n, 0.05) for b, c in zip(harmed.flat, helped.flat, strict=True)
    ]
    np.testing.assert_array_equal(tango.upper_limit(harmed, helped, n, 0.05).ravel(), single)
