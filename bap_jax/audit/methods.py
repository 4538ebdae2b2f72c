"""Compares methods (or recipes of compression) on the same samples, paired, over several seeds.

Of every method the accuracy, the flip rate, the largest excess gap beside what chance gives, the
spread τ̂ of the true excess gaps and the Bayes estimate of the largest one; and for every method but
the baseline

    difference of Bayes maxima, of flip rates and of accuracies, ratio of the spreads τ̂

each with the interval between the α and the 1 − α quantile over resamples. A resample draws samples
within groups, and seeds, the same for all methods; `bap_jax.audit.resampling` has the formulas,
`bap_jax.audit.resampled_spread` those of τ̂ and of the Bayes maximum (whose interval is that of its
posterior). Losses are averaged over seeds for every sample first, because seeds share the test
samples: a standard deviation over seeds alone leaves out that other samples would have given other
numbers.

The largest excess gap beside chance (permutations of samples among groups) is computed from the
averaged losses, too; for one seed all estimates are those of `audit.compare`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bap_jax.audit import assessment, counts, resampled_spread, resampling, spread
from bap_jax.audit.comparison import (
    Interval,
    MethodComparison,
    MethodDifference,
    MethodGroup,
    MethodResult,
)
from bap_jax.audit.per_seed import Options, of_one_seed, verdicts
from bap_jax.errors import UserError, first_of


def compare_methods(
    correct: Mapping[str, Any],
    dense_correct: Any,
    groups: Any,
    *,
    tolerance: float,
    alpha: float = 0.05,
    min_group_size: int = 30,
    group_by: str = "",
    baseline: str = "",
    resamples: int = 2000,
    seed: int = 0,
) -> MethodComparison:
    """Compares methods on the same samples, with intervals.

    Args:
      correct: for each method `(seed, sample)` or `(sample,)`, whether its networks are right; bool
        or 0/1. Methods may have different numbers of seeds; those with equally many are paired.
      dense_correct: `(sample,)`, or `(seed, sample)` if every seed has its own dense network, as in
        cross-validation.
      groups: as in `audit.compare`.
      tolerance: ε in [0, 1], shown beside the gaps.
      alpha: one-sided level in (0, 1/2); intervals cover 1 − 2α.
      min_group_size: groups of fewer samples are left out.
      group_by: as in `audit.compare`.
      baseline: the method that others are compared with; by default the first.
      resamples: number of bootstrap resamples, at least 100.
      seed: of the random numbers.

    Raises:
      UserError: shapes do not fit together, values are not 0 or 1, there is no method or no such
        baseline, or fewer than two groups are large enough.

    Example:
      >>> random = np.random.default_rng(0)
      >>> dense, a, b = random.random((3, 400)) < 0.9
      >>> found = compare_methods({"a": a, "b": b}, dense, ["x", "y"] * 200, tolerance=0.05)
      >>> [row.name for row in found.methods], found.differences[0].baseline
      (['a', 'b'], 'a')
    """
    assessment.check_whole("resamples", resamples, 100)
    assessment.check_whole("seed", seed, 0)
    names, dense, sparse = _checked(correct, dense_correct)
    baseline = baseline or names[0]
    if baseline not in names:
        raise UserError(f"no method is called {baseline!r}; known methods: {', '.join(names)}.")
    assessment.check_numbers(tolerance, alpha, min_group_size)
    table, cells = counts.count_cells(dense[0], sparse[0][0], groups, group_by)
    parts = assessment.assessed_parts(table, min_group_size)
    data = resampling.outcomes(cells, dense, sparse)
    evidence = _gather(data, parts, resamples, seed)
    options = Options(alpha, tolerance, min_group_size)
    results = [
        _result(name, of_method, parts, table, options, seed)
        for name, of_method in zip(names, evidence, strict=True)
    ]
    return MethodComparison(
        tolerance=float(tolerance),
        alpha=float(alpha),
        resamples=resamples,
        n=len(cells),
        dense_accuracy=float(dense.mean()),
        methods=tuple(results),
        differences=_differences(results, evidence, names.index(baseline), alpha),
        not_assessed=assessment.skipped_groups(table, min_group_size),
    )


class _Resampled(NamedTuple):
    """One method: a number for each resample; `excess_gap` is `(resample, group)`."""

    accuracy: np.ndarray
    flip_rate: np.ndarray
    largest: np.ndarray
    spread_square: np.ndarray
    excess_gap: np.ndarray


class _Evidence(NamedTuple):
    """All that is computed of one method before it is put into words.

    Attributes:
      data: outcomes, of all methods.
      number: of the method.
      averages: over seeds.
      resampled: numbers of the resamples.
      posterior: of the true excess gaps.
      draws: `(resample,)` from the posterior of the largest, paired between methods.
    """

    data: resampling.Outcomes
    number: int
    averages: resampling.Averages
    resampled: _Resampled
    posterior: spread.Posterior
    draws: np.ndarray

    @property
    def seeds(self) -> int:
        return len(self.data.losses[self.number])


def _gather(data, parts, resamples, seed) -> list[_Evidence]:
    every = range(len(data.losses))
    averages = [resampling.averages(data, i, parts) for i in every]
    blocks: list[list[_Resampled]] = [[] for _ in every]
    for drawn in resampling.draws(data, resamples, np.random.default_rng(seed)):
        for i in every:
            blocks[i].append(_resample(data, i, parts, averages[i], drawn))
    evidence = []
    for i, average in enumerate(averages):
        numbers = _Resampled(*map(np.concatenate, zip(*blocks[i], strict=True)))
        gaps, variance = average.excess_gap, average.variance
        posterior = spread.posterior(gaps, np.sqrt(variance))
        draws = resampled_spread.draws_of_largest(
            posterior, numbers.excess_gap, numbers.spread_square, gaps, variance
        )
        evidence.append(_Evidence(data, i, average, numbers, posterior, draws))
    return evidence


def _resample(data, method, parts, averages, drawn) -> _Resampled:
    found = resampling.estimates(data, method, drawn.counts, parts)
    seeds, deviations = drawn.seeds[len(data.losses[method])], averages.deviations
    gaps = found.excess_gap + seeds @ deviations.excess_gap
    centred = resampled_spread.recentred(gaps, averages.excess_gap, averages.variance)
    return _Resampled(
        accuracy=found.accuracy + seeds @ deviations.accuracy,
        flip_rate=found.flip_rate + seeds @ deviations.flip_rate,
        largest=centred.max(axis=1),
        spread_square=resampled_spread.spread_square(centred, found.variance + averages.of_seeds),
        excess_gap=gaps,
    )


def _result(name, evidence: _Evidence, parts, table, options, seed) -> MethodResult:
    averages, resampled, alpha = evidence.averages, evidence.resampled, options.alpha
    gaps = averages.excess_gap
    limits = np.quantile(resampled.excess_gap, [alpha, 1 - alpha], axis=0)
    by_chance = resampling.chance_of_averages(evidence.data, evidence.number, parts, seed)
    if evidence.seeds == 1:
        # Those of the plain audit: resamples of a group without flips are all alike.
        limits, by_chance = of_one_seed(evidence.data, evidence.number, table, options, seed)
    spread_of_resamples = np.sqrt(np.maximum(0, resampled.spread_square))
    return MethodResult(
        name=name,
        seeds=evidence.seeds,
        verdicts=verdicts(evidence.data, evidence.number, table, options),
        accuracy=_interval(averages.accuracy, resampled.accuracy, alpha),
        flip_rate=_interval(averages.flip_rate, resampled.flip_rate, alpha),
        max_excess_gap=_interval(gaps.max(), resampled.largest, alpha),
        expected_by_chance=by_chance[0],
        p_value=by_chance[1],
        spread=_interval(_spread(evidence), spread_of_resamples, alpha),
        bayes_max=Interval(*evidence.posterior.largest),
        groups=_groups(parts, gaps, limits, evidence.posterior.shrunken),
    )


def _groups(parts, gaps, limits, shrunken) -> tuple[MethodGroup, ...]:
    names = [(part.attribute, name) for part in parts for name in part.names]
    n = np.concatenate([part.table.n for part in parts])
    columns = (column.tolist() for column in (n, gaps, *limits, shrunken))
    rows = [MethodGroup(*name, *row) for name, *row in zip(names, *columns, strict=True)]
    return tuple(sorted(rows, key=lambda row: (-row.excess_gap, row[:2])))


def _spread(evidence):
    return spread.spread(evidence.averages.excess_gap, np.sqrt(evidence.averages.variance))


def _differences(results, evidence, first, alpha) -> tuple[MethodDifference, ...]:
    """Every method against the one with the number `first`."""
    return tuple(
        _difference(results[i], results[first], evidence[i], evidence[first], alpha)
        for i in range(len(results))
        if i != first
    )


def _difference(row, base, evidence, evidence_of_base, alpha) -> MethodDifference:
    one, other = evidence.resampled, evidence_of_base.resampled
    squares = (np.maximum(0, resampled.spread_square) for resampled in (one, other))
    ratio = _ratio(row.spread.estimate, base.spread.estimate)
    return MethodDifference(
        name=row.name,
        baseline=base.name,
        bayes_max=_interval(
            row.bayes_max.estimate - base.bayes_max.estimate,
            evidence.draws - evidence_of_base.draws,
            alpha,
        ),
        spread_ratio=_interval(ratio, np.sqrt(_ratio(*squares)), alpha),
        flip_rate=_interval(
            row.flip_rate.estimate - base.flip_rate.estimate, one.flip_rate - other.flip_rate, alpha
        ),
        accuracy=_interval(
            row.accuracy.estimate - base.accuracy.estimate, one.accuracy - other.accuracy, alpha
        ),
    )


def _ratio(value, base):
    """value / base; 1 where both are 0, infinite where only the base is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.equal(value, base), 1.0, np.divide(value, base))


def _interval(estimate, resampled, alpha) -> Interval:
    # Quantiles that are resamples themselves: between two infinite ratios there is no number.
    lower, upper = np.quantile(resampled, [alpha, 1 - alpha], method="nearest")
    return Interval(float(estimate), float(lower), float(upper))


def _checked(correct, dense_correct):
    """Names, the dense network `(seed, sample)` and each method `(seed, sample)`, as bools."""
    if not isinstance(correct, Mapping) or not correct:
        raise UserError(
            "correct must be a dict from the name of each method to its array, of shape (sample,) "
            "or (seed, sample)."
        )
    names = [str(name) for name in correct]
    dense = _rows(dense_correct, "dense_correct")
    sparse = [_rows(values, f"correct[{name!r}]") for name, values in correct.items()]
    shapes = {
        "dense_correct": dense.shape,
        **{name: rows.shape for name, rows in zip(names, sparse, strict=True)},
    }
    if len({shape[1] for shape in shapes.values()}) > 1:
        listed = [f"{name}: {shape[1]}" for name, shape in shapes.items()]
        raise UserError(f"all arrays need the same samples; got {first_of(listed, 10)} samples.")
    if len(dense) > 1 and any(len(dense) != len(rows) for rows in sparse):
        listed = [f"{name}: {shape[0]}" for name, shape in shapes.items()]
        raise UserError(
            "dense_correct has several seeds, so every method needs as many; got "
            f"{first_of(listed, 10)} seeds. Pass one row if all seeds share the dense network."
        )
    return names, dense, sparse


def _rows(values, what):
    array = np.atleast_2d(np.asarray(values))
    if array.ndim != 2 or not array.size:
        raise UserError(
            f"{what} must have the shape (sample,) or (seed, sample); got {np.shape(values)}."
        )
    return np.stack([counts.right_or_wrong(row, what) for row in array])
