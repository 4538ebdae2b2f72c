"""What a comparison of methods finds. All accuracies, gaps and limits are fractions."""

import dataclasses
from typing import Any, NamedTuple

from bap_jax.audit.result import Skipped, plain


class Interval(NamedTuple):
    """An estimate and its limits, the α and 1 − α quantiles over resamples."""

    estimate: float
    lower: float
    upper: float


class MethodGroup(NamedTuple):
    """One assessed group under one method.

    Attributes:
      attribute: the partition it belongs to; "" for an unnamed one.
      name: of the group.
      n: its samples.
      excess_gap: ψ̂_g, of losses averaged over seeds.
      lower: one-sided lower limit at level alpha: as in `audit.compare` for one seed, else the
        quantile over resamples.
      upper: one-sided upper limit.
      shrunken: posterior mean of ψ_g.
    """

    attribute: str
    name: str
    n: int
    excess_gap: float
    lower: float
    upper: float
    shrunken: float


class MethodResult(NamedTuple):
    """One method.

    Attributes:
      name: as passed.
      seeds: how many.
      verdicts: of `audit.compare` on the network of each seed.
      accuracy: of the sparse networks, all samples.
      flip_rate: share of samples that exactly one of dense and sparse network has right.
      max_excess_gap: the largest ψ̂_g. Its interval is where it would lie on other samples, not
        where the largest true gap lies.
      expected_by_chance: mean of the largest ψ̂_g over permutations of samples among groups.
      p_value: of the permutations.
      spread: τ̂, the standard deviation of the true ψ_g over groups.
      bayes_max: estimate of the largest true ψ_g.
      groups: the assessed groups, the largest ψ̂_g first.
    """

    name: str
    seeds: int
    verdicts: tuple[str, ...]
    accuracy: Interval
    flip_rate: Interval
    max_excess_gap: Interval
    expected_by_chance: float
    p_value: float
    spread: Interval
    bayes_max: Interval
    groups: tuple[MethodGroup, ...]


class MethodDifference(NamedTuple):
    """One method against the baseline: the method's number minus the baseline's.

    Attributes:
      name: of the method.
      baseline: name of the baseline.
      bayes_max: difference of the estimates of the largest true ψ_g; below 0, the method is better.
      spread_ratio: τ̂ of the method over τ̂ of the baseline; 1 if both are 0.
      flip_rate: difference; below 0, the method changes fewer answers.
      accuracy: difference; above 0, the method is better.
    """

    name: str
    baseline: str
    bayes_max: Interval
    spread_ratio: Interval
    flip_rate: Interval
    accuracy: Interval


@dataclasses.dataclass(frozen=True)
class MethodComparison:
    """Several methods on the same samples.

    Attributes:
      tolerance: ε, the largest excess gap that is accepted.
      alpha: one-sided level of all limits.
      resamples: how many.
      n: samples.
      dense_accuracy: of the dense network, averaged over seeds.
      methods: the results, in the order in which they were passed.
      differences: every method but the baseline against the baseline.
      not_assessed: groups that are too small.
    """

    tolerance: float
    alpha: float
    resamples: int
    n: int
    dense_accuracy: float
    methods: tuple[MethodResult, ...]
    differences: tuple[MethodDifference, ...]
    not_assessed: tuple[Skipped, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, by the same names; infinity and NaN become None."""
        return plain({field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    def to_text(self) -> str:
        """Tables of the methods and of their differences."""
        from bap_jax.audit.comparison_text import format_comparison

        return format_comparison(self)
