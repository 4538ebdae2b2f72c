"""The excess gap ψ_g of a group: estimate, standard error, one-sided limits, p-values, Holm.

D̄_g is the mean loss of a group (share harmed − share helped), D̄_¬g that of all other assessed
samples of the same partition, w_g = n_g / n. The excess gap compares a group with the whole:

    ψ_g = Δ_g − Δ = (1 − w_g)(D̄_g − D̄_¬g)

a difference of two *independent* means, each paired within a sample. (Δ_g and Δ share the group's
samples; limits that treat them as independent are wrong.) The limits of the two means, by Tango's
score method, are joined by the method of variance estimates recovery (MOVER).
Every function takes one table of counts, or several that lie along leading axes.

Source of MOVER: G. Zou, A. Donner, "Construction of confidence limits about effect measures: a
general approach", Statistics in Medicine 27 (2008) 1693-1702; for differences of proportions it is
R. Newcombe's hybrid score method, Statistics in Medicine 17 (1998) 873-890.
"""

import numpy as np
from scipy import special

from bap_jax.audit import tango
from bap_jax.audit.counts import Table

_HALVINGS = 54


def others(table: Table) -> Table:
    """`(..., group)` for each group the counts of all other samples of the partition."""
    return Table(*(_total(counts) - counts for counts in table))


def _total(counts):
    return counts.sum(axis=-1, keepdims=True)


def mean_loss(table: Table) -> np.ndarray:
    """`(..., group)` D̄ = (harmed − helped)/n, the accuracy lost."""
    return (table.harmed - table.helped) / table.n


def excess_gap(table: Table) -> np.ndarray:
    """`(..., group)` ψ̂_g = D̄_g − D̄, of groups of at least one sample each."""
    return mean_loss(table) - _total(table.harmed - table.helped) / _total(table.n)


def _weight_of_others(table):
    return 1 - table.n / _total(table.n)


def standard_error(table: Table) -> np.ndarray:
    """`(..., group)` σ̂_g, the plug-in standard error of ψ̂_g.

    σ̂_g² = (1 − w_g)² (v_g/n_g + v_¬g/n_¬g) with v = (b + c)/n − D̄².
    """

    def variance_of_mean(part):
        return ((part.harmed + part.helped) / part.n - mean_loss(part) ** 2) / part.n

    variance = variance_of_mean(table) + variance_of_mean(others(table))
    return _weight_of_others(table) * np.sqrt(np.maximum(variance, 0))


def lower_limit(table: Table, alpha: float) -> np.ndarray:
    """The one-sided lower limit of every ψ_g, each at level alpha.

    L = (1 − w)[D̄_g − D̄_¬g − √((D̄_g − L_g)² + (U_¬g − D̄_¬g)²)], L_g and U_¬g by Tango.

    Args:
      table: `(..., group)` counts of at least two groups, each of at least one sample.
      alpha: in (0, 1/2).

    Returns:
      `(..., group)` limits.
    """
    rest = others(table)
    below = mean_loss(table) - tango.lower_limit(table.harmed, table.helped, table.n, alpha)
    above = tango.upper_limit(rest.harmed, rest.helped, rest.n, alpha) - mean_loss(rest)
    return excess_gap(table) - _weight_of_others(table) * np.hypot(below, above)


def upper_limit(table: Table, alpha: float) -> np.ndarray:
    """The one-sided upper limit of every ψ_g: minus the lower limit with the two models swapped.

    U = (1 − w)[D̄_g − D̄_¬g + √((U_g − D̄_g)² + (D̄_¬g − L_¬g)²)].

    Args:
      table: `(..., group)` counts of at least two groups, each of at least one sample.
      alpha: in (0, 1/2).

    Returns:
      `(..., group)` limits.
    """
    return -lower_limit(table._replace(harmed=table.helped, helped=table.harmed), alpha)


def p_values(table: Table, tolerance: float) -> np.ndarray:
    """For every group the level at which the lower limit of ψ_g is the tolerance.

    It is the one-sided p-value of the hypothesis ψ_g <= tolerance. With r = D̄_g − D̄_¬g −
    tolerance/(1 − w) the limit at level p satisfies (D̄_g − L_g)² + (U_¬g − D̄_¬g)² = r², and L_g and
    U_¬g have the same score, T_g(L_g) = −T_¬g(U_¬g) = z. So one root is sought: the
    x = D̄_g − L_g in [0, r] where the two scores agree; p = 1 − Φ(z).

    Args:
      table: `(..., group)` counts of at least two groups, each of at least one sample.
      tolerance: ε in [0, 1].

    Returns:
      `(..., group)` p-values below 1/2; 1 where the estimate does not exceed the tolerance.
    """
    p = np.ones(table.n.shape)
    candidate = excess_gap(table) > tolerance
    group, rest = (
        Table(*(counts[candidate].astype(float) for counts in part))
        for part in (table, others(table))
    )
    mean, mean_of_rest = mean_loss(group), mean_loss(rest)
    radius = mean - mean_of_rest - tolerance / _weight_of_others(table)[candidate]

    def score_of_group(x):
        return tango.score(group.harmed, group.helped, group.n, mean - x)

    inside, outside = np.zeros_like(radius), radius
    for _ in range(_HALVINGS):
        x = (inside + outside) / 2
        limit_of_rest = mean_of_rest + np.sqrt((radius - x) * (radius + x))
        smaller = score_of_group(x) < -tango.score(rest.harmed, rest.helped, rest.n, limit_of_rest)
        inside, outside = np.where(smaller, x, inside), np.where(smaller, outside, x)
    p[candidate] = special.ndtr(-score_of_group(outside))
    return p


def holm_rejects(p: np.ndarray, alpha: float) -> np.ndarray:
    """Which hypotheses Holm's step-down procedure rejects, wrongly any with probability <= alpha.

    The k-th smallest of G p-values is compared with α/(G − k + 1) until one is larger.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal
    of Statistics 6 (1979) 65-70.

    Args:
      p: `(hypothesis,)` p-values, dependent in any way.
      alpha: family-wise level.

    Returns:
      `(hypothesis,)` bool.
    """
    order = np.argsort(p, kind="stable")
    passes = p[order] <= alpha / np.arange(len(p), 0, -1)
    rejected = np.zeros(len(p), bool)
    rejected[order] = np.logical_and.accumulate(passes)
    return rejected
