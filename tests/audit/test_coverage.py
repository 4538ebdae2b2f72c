"""How often limits and verdicts are wrong: the goals, in simulation (`make test-slow`)."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bap_jax.audit import excess
from bap_jax.audit.counts import Table
from bap_jax.audit.planning import samples_needed

_PATH = Path(__file__).parents[2] / "benchmarks" / "audit_coverage.py"
_spec = importlib.util.spec_from_file_location("audit_coverage", _PATH)
coverage = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(coverage)

TABLES = 5000
each_design = pytest.mark.parametrize(
    ("n", "flip_rate"), [(n, d) for n in coverage.SIZES for d in coverage.FLIP_RATES]
)


def at_most(rate, goal):
    """Whether a simulated rate is at most the goal, but for three standard errors."""
    return rate <= goal + 3 * np.sqrt(goal * (1 - goal) / TABLES)


def test_the_limits_that_are_simulated_are_those_of_the_audit():
    drawn = np.random.default_rng(0).multinomial(80, [0.1, 0.05, 0.85], (3, 6))
    n, harmed, helped = np.full(6, 80), drawn[..., 0], drawn[..., 1]
    table = Table(n, harmed, helped, n)
    rest = [80 * 5, *(counts.sum(axis=1, keepdims=True) - counts for counts in (harmed, helped))]
    lower, upper = coverage.differences(
        coverage.arms(harmed, helped, 80, 0.01), coverage.arms(rest[1], rest[2], rest[0], 0.01)
    )
    np.testing.assert_allclose(excess.lower_limit(table, 0.01), 5 / 6 * lower, atol=1e-12)
    np.testing.assert_allclose(excess.upper_limit(table, 0.01), 5 / 6 * upper, atol=1e-12)


def test_all_tables_are_enumerated():
    harmed, helped, probability = coverage.all_tables(40, (0.1, 0.05))
    assert probability.sum() == pytest.approx(1, abs=1e-9)
    assert probability @ harmed == pytest.approx(4) and probability @ helped == pytest.approx(2)
    assert probability @ (harmed * helped) == pytest.approx(40 * 39 * 0.1 * 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", coverage.ALPHAS)
@each_design
def test_limits_miss_as_often_as_they_say_or_less(n, flip_rate, alpha):
    rates, errors = coverage.miss_rates(n, flip_rate, alpha, 0, draws=1500) / alpha
    assert (rates <= 1.2 + 3 * errors).all()
    if n * flip_rate >= 16 and alpha == 0.05:
        np.testing.assert_allclose(rates, 1, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("at_tolerance", [1, 5])
@each_design
def test_satisfied_is_wrong_at_most_as_often_as_alpha(n, flip_rate, at_tolerance):
    tolerance = flip_rate / 2
    gaps = coverage.gaps_with(at_tolerance, tolerance)
    _, upper = coverage.verdict_limits(n, flip_rate, gaps, TABLES)
    assert at_most((upper <= tolerance).all(axis=1).mean(), 0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at_tolerance", "groups", "part"),
    [(5, 10, 0), (5, 10, 0.5), (1, 10, 1), (9, 10, 1 / 9), (50, 100, 0), (50, 100, 0.5)],
)
@each_design
def test_violated_is_wrong_at_most_as_often_as_alpha(n, flip_rate, at_tolerance, groups, part):
    tolerance = part * flip_rate
    gaps = coverage.gaps_with(at_tolerance, tolerance, groups)
    lower, _ = coverage.verdict_limits(n, flip_rate, gaps, TABLES)
    assert at_most((lower > tolerance).mean(), 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, coverage.GROUPS])
@pytest.mark.parametrize("tolerance", [0.05, 0.02, 0.01])
@pytest.mark.parametrize("flip_rate", [0.08, 0.16, 0.25])
def test_planned_samples_have_the_planned_power(flip_rate, tolerance, groups):
    n = samples_needed(flip_rate, tolerance, share=1 / coverage.GROUPS, groups=groups)
    gaps = np.zeros(coverage.GROUPS)
    _, upper = coverage.verdict_limits(n, flip_rate, gaps, 2000)
    power = (upper[:, :groups] <= tolerance).all(axis=1).mean()
    assert power == pytest.approx(0.8, abs=0.04)
