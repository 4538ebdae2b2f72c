import numpy as np
import pytest

from bap_jax.audit import spread


def posterior_by_simulation(gaps, errors, draws=400_000):
    random = np.random.default_rng(0)
    tau = np.linspace(0, 3 * np.abs(gaps).max(), 20_001)[1:]
    total = tau[:, None] ** 2 + errors**2
    log_density = -0.5 * (np.log(total) + gaps**2 / total).sum(axis=1)
    density = np.exp(log_density - log_density.max())
    drawn = random.choice(tau, draws, p=density / density.sum())[:, None]
    kept = drawn**2 / (drawn**2 + errors**2)
    return kept * gaps + np.sqrt(kept) * errors * random.standard_normal((draws, len(gaps)))


@pytest.mark.parametrize("true_spread", [0, 0.03])
@pytest.mark.parametrize("groups", [2, 12])
def test_the_posterior_is_that_of_simulation(groups, true_spread):
    random = np.random.default_rng(groups)
    errors = random.uniform(0.01, 0.03, groups)
    gaps = random.normal(0, true_spread, groups) + errors * random.standard_normal(groups)
    found, drawn = spread.posterior(gaps, errors), posterior_by_simulation(gaps, errors)
    np.testing.assert_allclose(found.shrunken, drawn.mean(axis=0), atol=2e-4)
    largest = drawn.max(axis=1)
    assert found.largest.mean == pytest.approx(largest.mean(), abs=2e-4)
    quantiles = np.quantile(largest, [0.05, 0.95])
    np.testing.assert_allclose(found.largest[1:], quantiles, atol=4e-4)


def test_the_spread_is_found_where_there_is_one_and_is_0_where_sampling_explains_all():
    random = np.random.default_rng(0)
    errors = np.full(5000, 0.02)
    noise = errors * random.standard_normal(5000)
    assert spread.spread(noise + random.normal(0, 0.03, 5000), errors) == pytest.approx(0.03, 0.05)
    assert spread.spread(0.9 * noise, errors) == 0


def test_all_estimates_0():
    found = spread.posterior(np.zeros(3), np.zeros(3))
    assert found.largest == (0, 0, 0)
    np.testing.assert_array_equal(found.shrunken, 0)


def test_groups_without_an_error_keep_their_estimates():
    gaps = np.array([0.5, -0.5])
    found = spread.posterior(gaps, np.zeros(2))
    np.testing.assert_allclose(found.shrunken, gaps, rtol=1e-6)
    np.testing.assert_allclose(found.largest, 0.5, rtol=1e-3)
