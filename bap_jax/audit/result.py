"""What an audit finds. All accuracies, gaps and limits are fractions, not percent."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

SATISFIED, VIOLATED, UNDECIDED = "satisfied", "violated", "undecided"


class Overall(NamedTuple):
    """All samples together, also those of groups that are not assessed.

    Attributes:
      n: samples.
      dense_accuracy: of the dense model.
      sparse_accuracy: of the sparse model.
      gap: Δ, the dense accuracy minus the sparse one.
      lower: one-sided lower limit of Δ at level alpha (Tango).
      upper: one-sided upper limit of Δ at level alpha (Tango).
      harmed: samples that only the dense model has right.
      helped: samples that only the sparse model has right.
      flip_rate: share of samples that exactly one of the two models has right.
    """

    n: int
    dense_accuracy: float
    sparse_accuracy: float
    gap: float
    lower: float
    upper: float
    harmed: int
    helped: int
    flip_rate: float


class GroupResult(NamedTuple):
    """One assessed group.

    Attributes:
      attribute: the partition it belongs to, such as "race*gender"; "" for an unnamed one.
      name: of the group.
      n: its samples.
      harmed: samples that only the dense model has right.
      helped: samples that only the sparse model has right.
      dense_accuracy: of the dense model in the group.
      sparse_accuracy: of the sparse model in the group.
      gap: Δ_g, the dense accuracy minus the sparse one.
      excess_gap: ψ̂_g, the gap minus that of all assessed samples of the partition.
      lower: one-sided lower limit of ψ_g at level alpha, for this group alone.
      upper: one-sided upper limit of ψ_g at level alpha, for this group alone.
      shrunken: posterior mean of ψ_g, which draws noisy groups towards 0.
      verdict: "violated" if Holm's procedure over all groups rejects ψ_g <= tolerance, "satisfied"
        if the upper limit is at most the tolerance, else "undecided".
      samples_needed: samples of this group with which the upper limit is at most the tolerance with
        80 % power if the true excess gap is 0; None if the tolerance is 0.
    """

    attribute: str
    name: str
    n: int
    harmed: int
    helped: int
    dense_accuracy: float
    sparse_accuracy: float
    gap: float
    excess_gap: float
    lower: float
    upper: float
    shrunken: float
    verdict: str
    samples_needed: int | None


class Skipped(NamedTuple):
    """A group that has too few samples to be assessed.

    Attributes:
      attribute: the partition it belongs to.
      name: of the group.
      n: its samples.
    """

    attribute: str
    name: str
    n: int


class Chance(NamedTuple):
    """The largest excess gap if all groups were harmed alike.

    Attributes:
      expected: its mean over the permutations.
      p_value: (#{max >= observed} + 1)/(N + 1) of N permutations.
      maxima: `(permutation,)` the largest excess gaps.
    """

    expected: float
    p_value: float
    maxima: np.ndarray


class BayesMax(NamedTuple):
    """Estimate of the largest true excess gap, for comparing methods; no part of the verdict.

    Attributes:
      mean: of its posterior.
      lower: 5 % quantile.
      upper: 95 % quantile.
    """

    mean: float
    lower: float
    upper: float


@dataclasses.dataclass(frozen=True, eq=False)  # arrays cannot be compared as fields are
class Audit:
    """Is the sparse model non-inferior to the dense one by a margin of `tolerance` in every group?

    Attributes:
      tolerance: ε, the largest excess gap that is accepted.
      alpha: one-sided level of the limits and the verdict.
      min_group_size: samples that a group needs to be assessed.
      overall: all samples together.
      verdict: "satisfied" if all upper limits are at most the tolerance, "violated" if the
        simultaneous lower limit exceeds it, else "undecided".
      lower: L, the simultaneous lower limit of the largest ψ_g.
      certifiable_tolerance: the largest upper limit, the smallest tolerance that these samples
        would call satisfied.
      deciding_group: the group with the largest upper limit, or with the largest simultaneous lower
        limit if the verdict is "violated"; "attribute=name" where several groups have its name.
      samples_needed: in the deciding group, see `GroupResult`.
      max_excess_gap: the largest ψ̂_g.
      chance: what it would be if all groups were harmed alike.
      spread: τ̂, the standard deviation of the true ψ_g over groups, in both directions.
      bayes_max: estimate of the largest true ψ_g.
      groups: the assessed groups, the largest ψ̂_g first.
      not_assessed: the groups of fewer than `min_group_size` samples.
      missing: for each attribute the samples without a value; they form the group "missing".
    """

    tolerance: float
    alpha: float
    min_group_size: int
    overall: Overall
    verdict: str
    lower: float
    certifiable_tolerance: float
    deciding_group: str
    samples_needed: int | None
    max_excess_gap: float
    chance: Chance
    spread: float
    bayes_max: BayesMax
    groups: tuple[GroupResult, ...]
    not_assessed: tuple[Skipped, ...]
    missing: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, by the same names; NaN becomes None.

        Of the maxima of `chance` their number, `permutations`, and the quantiles `quantile_5`,
        `quantile_50` and `quantile_95` are kept.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        quantiles = np.quantile(self.chance.maxima, [0.05, 0.5, 0.95])
        chance = {
            "expected": self.chance.expected,
            "p_value": self.chance.p_value,
            "permutations": len(self.chance.maxima),
            **dict(zip(("quantile_5", "quantile_50", "quantile_95"), quantiles, strict=True)),
        }
        return plain({**fields, "chance": chance, "missing": dict(self.missing)})

    def to_text(self, verbose: bool = False) -> str:
        """The verdict in a sentence and a table of the worst groups; of all groups if verbose."""
        from bap_jax.audit.text import format_audit

        return format_audit(self, verbose)

    def to_html(self, **about: Any) -> str:
        """A page that needs no other file; see `bap_jax.audit.html.render_audit` for `about`."""
        from bap_jax.audit.html import render_audit

        return render_audit(self, about)


def plain(value) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
