import numpy as np
import pytest
from scipy import stats

from bap_jax.audit import draws

N = np.array([4, 1, 20, 300])
HARMED, HELPED, TIMES = 90, 30, 10_000


@pytest.fixture(params=["sample by sample", "cell by cell", "many cells"])
def drawn(request, monkeypatch):
    """Losses `(time, cell)`, drawn in each of the ways."""
    method = {"sample by sample": "count"}.get(request.param, "marginals")
    monkeypatch.setattr(draws, "_faster_method", lambda draws, cells: method)
    monkeypatch.setattr(draws, "_MANY_CELLS", 1 if request.param == "many cells" else 99)
    return draws.Losses(N, HARMED, HELPED).draw(np.random.default_rng(0), TIMES)


def test_every_draw_holds_all_flips(drawn):
    np.testing.assert_array_equal(drawn.sum(axis=1), HARMED - HELPED)
    assert (np.abs(drawn) <= N).all()


def test_means_and_covariances_are_those_of_draws_without_replacement(drawn):
    size, total = N.sum(), HARMED - HELPED
    # The loss of a sample has this variance, and that of two samples a covariance of −v/(size − 1).
    variance = (HARMED + HELPED) / size - (total / size) ** 2
    expected = variance * (np.diag(N) * size - np.outer(N, N)) / (size - 1)
    np.testing.assert_allclose(np.cov(drawn.T), expected, rtol=0.06, atol=0.1)
    errors = np.sqrt(np.diag(expected) / TIMES)
    assert (np.abs(drawn.mean(axis=0) - total * N / size) < 4 * errors).all()


def test_a_cell_of_one_sample_has_the_three_outcomes(drawn):
    shares = [np.mean(drawn[:, 1] == loss) for loss in (1, -1, 0)]
    size = N.sum()
    expected = [HARMED / size, HELPED / size, (size - HARMED - HELPED) / size]
    np.testing.assert_allclose(shares, expected, atol=0.015)


def test_counts_of_many_cells_are_hypergeometric():
    n = np.r_[np.full(1500, 12), np.full(1500, 40)]
    losses = draws.Losses(n, 6000, 0).draw(np.random.default_rng(1), 40)
    for size, counts in ((12, losses[:, :1500]), (40, losses[:, 1500:])):
        exact = stats.hypergeom(n.sum(), 6000, size)
        values = np.arange(int(exact.ppf(1e-3)), int(exact.isf(1e-3)) + 1)
        observed = np.array([(counts == value).sum() for value in values])
        expected = exact.pmf(values) * counts.size
        assert ((observed - expected) ** 2 / expected).sum() < stats.chi2(len(values)).isf(1e-4)


@pytest.mark.parametrize(("harmed", "helped"), [(0, 0), (0, 7), (325, 0), (300, 25), (1, 324)])
@pytest.mark.parametrize("many_cells", [1, 99])
def test_no_flips_and_nothing_but_flips(monkeypatch, harmed, helped, many_cells):
    monkeypatch.setattr(draws, "_MANY_CELLS", many_cells)
    losses = draws.Losses(N, harmed, helped).draw(np.random.default_rng(0), 50)
    np.testing.assert_array_equal(losses.sum(axis=1), harmed - helped)
    if harmed + helped == N.sum():
        assert (losses % 2 == N % 2).all()


def test_the_table_of_binomial_counts_is_the_inverse_distribution_function():
    table = draws._BinomialTable(60, 0.3)
    sizes = np.repeat([0, 1, 7, 60], 200_000).reshape(4, -1)
    counts = table.draw(np.random.default_rng(0), sizes)
    for size, row in zip((0, 1, 7, 60), counts, strict=True):
        expected = stats.binom(size, 0.3).pmf(np.arange(61)) * row.size
        observed = np.bincount(row, minlength=61)
        common = expected > 5
        assert observed[~common].sum() < 60
        square = (observed - expected)[common] ** 2 / expected[common]
        assert square.sum() < stats.chi2(common.sum()).isf(1e-4)
