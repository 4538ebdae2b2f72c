"""The whole audit: from right and wrong of two models, by groups, to a verdict.

    satisfied   max_g U_g <= ε, every upper limit at level α without correction: "in all groups" is
                an intersection-union test, which is wrong with probability at most α
    violated    L > ε, L = max_g of the lower limits at level α/G over the G assessed groups of all
                partitions: the first step of Holm's procedure
    undecided   otherwise

Two models that are right on the same samples are not "satisfied" for that alone: n samples without
a flip leave room for a flip rate of about z²/(n + z²), and the verdict is "satisfied" only where
that is small beside ε. Where fewer than two groups of a partition are large enough there is nothing
to compare and no verdict: a lone group's excess gap is 0 by definition, so that "satisfied" would
say nothing.

L uses Bonferroni's level α/G. The groups of one partition are nearly independent, and for
independent ones the exact level, 1 − (1 − α)^(1/G), moves z by less than .01.

Source of the intersection-union test: R. Berger, "Multiparameter hypothesis testing and acceptance
sampling", Technometrics 24 (1982) 295-300.
"""

import numbers
from collections.abc import Sequence

import numpy as np

from bap_jax.audit import chance, counts, excess, planning, spread, tango
from bap_jax.audit.counts import Assessed, Counts, Table
from bap_jax.audit.result import (
    SATISFIED,
    UNDECIDED,
    VIOLATED,
    Audit,
    GroupResult,
    Overall,
    Skipped,
)
from bap_jax.errors import UserError, first_of

# For planning, a group's flip rate is computed with so many more samples at the overall rate.
_SAMPLES_AT_THE_OVERALL_RATE = 50


def compare(
    dense_correct,
    sparse_correct,
    groups,
    *,
    tolerance: float,
    alpha: float = 0.05,
    min_group_size: int = 30,
    group_by: str = "",
    permutations: int | None = None,
    seed: int = 0,
) -> Audit:
    """Audits a sparse (or quantised, distilled, ...) model against the dense one it was made from.

    Args:
      dense_correct: `(sample,)` whether the dense model has each sample right; bool or 0/1.
      sparse_correct: `(sample,)` the same of the sparse model, samples in the same order.
      groups: `(sample,)` the group of each sample (text, numbers, bools), or a dict of several such
        columns by attribute. Samples without a value (None, NaN, "") form the group "missing".
      tolerance: ε in [0, 1], how much more accuracy than the whole any group may lose.
      alpha: one-sided level in (0, 1/2).
      min_group_size: groups of fewer samples are named in `not_assessed`, and left out.
      group_by: which partitions to assess, for a dict of attributes: `"race*gender"` for every
        combination, `"race+gender"` for each on its own; by default each attribute on its own.
      permutations: number of permutations for `chance`; by default 20,000, and fewer for
        over 250 combinations of groups: 2,000 for 10,000 of them.
      seed: of the permutations.

    Raises:
      UserError: lengths differ, correctness is not 0 or 1, fewer than two groups are large enough,
        an attribute is unknown, or a number is outside its range.

    Example:
      >>> dense, sparse = [True] * 200, [True] * 150 + [False] * 50
      >>> compare(dense, sparse, ["a", "b"] * 100, tolerance=0.1).verdict
      'satisfied'
    """
    check_numbers(tolerance, alpha, min_group_size)
    table = counts.of_samples(dense_correct, sparse_correct, groups, group_by)
    return from_counts(
        table,
        tolerance=tolerance,
        alpha=alpha,
        min_group_size=min_group_size,
        permutations=permutations,
        seed=seed,
    )


def from_counts(
    table: Counts,
    *,
    tolerance: float,
    alpha: float = 0.05,
    min_group_size: int = 30,
    permutations: int | None = None,
    seed: int = 0,
) -> Audit:
    """The audit of samples that have been counted already.

    Args:
      table: counts, from `counts.of_samples`, `counts.of_groups` or `counts.merge`.
      tolerance: as in `compare`.
      alpha: as in `compare`.
      min_group_size: as in `compare`.
      permutations: as in `compare`.
      seed: as in `compare`.

    Raises:
      UserError: fewer than two groups are large enough, or a number is outside its range.
    """
    check_numbers(tolerance, alpha, min_group_size)
    check_whole("seed", seed, 0)
    if permutations is not None:
        check_whole("permutations", permutations, 1)
    overall = _overall(table.cells, alpha)
    parts = assessed_parts(table, min_group_size)
    groups = _groups(parts, overall.flip_rate, tolerance, alpha)
    simultaneous = np.concatenate([excess.lower_limit(p.table, alpha / len(groups)) for p in parts])
    gaps = np.concatenate([excess.excess_gap(part.table) for part in parts])
    errors = np.concatenate([excess.standard_error(part.table) for part in parts])
    estimate = spread.posterior(gaps, errors)
    groups = [g._replace(shrunken=float(s)) for g, s in zip(groups, estimate.shrunken, strict=True)]
    certifiable = max(group.upper for group in groups)
    verdict = _verdict([group.verdict for group in groups])
    limits = simultaneous if verdict == VIOLATED else [group.upper for group in groups]
    deciding = groups[int(np.argmax(limits))]
    return Audit(
        tolerance=float(tolerance),
        alpha=float(alpha),
        min_group_size=int(min_group_size),
        overall=overall,
        verdict=verdict,
        lower=float(simultaneous.max()),
        certifiable_tolerance=certifiable,
        deciding_group=_label(deciding, groups),
        samples_needed=deciding.samples_needed,
        max_excess_gap=float(gaps.max()),
        chance=chance.chance_of_largest(table.cells, parts, permutations, seed),
        spread=spread.spread(gaps, errors),
        bayes_max=estimate.largest,
        groups=tuple(sorted(groups, key=lambda group: (-group.excess_gap, group[:2]))),
        not_assessed=skipped_groups(table, min_group_size),
        missing=table.missing,
    )


def check_numbers(tolerance: float, alpha: float, min_group_size: int) -> None:
    """Raises a UserError for a number outside its range, or for what is no number."""
    values = {"tolerance": tolerance, "alpha": alpha, "min_group_size": min_group_size}
    for name, value in values.items():
        if not isinstance(value, numbers.Real):
            raise UserError(f"{name} must be a number; got {value!r}.")
    if not 0 <= tolerance <= 1:
        raise UserError(
            f"tolerance must be a fraction in [0, 1]; got {tolerance}. One percentage point is "
            "0.01."
        )
    if not 0 < alpha < 0.5:
        raise UserError(f"alpha must be a one-sided level in (0, 0.5), such as 0.05; got {alpha}.")
    if min_group_size < 1:
        raise UserError(f"min_group_size must be at least 1; got {min_group_size}.")


def check_whole(name: str, value: int, least: int) -> None:
    """Raises a UserError for what is no whole number, or less than the least one."""
    if not isinstance(value, numbers.Integral):
        raise UserError(f"{name} must be a whole number; got {value!r}.")
    if value < least:
        raise UserError(f"{name} must be at least {least}; got {value}.")


def _overall(cells: Table, alpha):
    n, harmed, helped, both_right = (column.sum() for column in cells)
    return Overall(
        n=int(n),
        dense_accuracy=float((both_right + harmed) / n),
        sparse_accuracy=float((both_right + helped) / n),
        gap=float((harmed - helped) / n),
        lower=float(tango.lower_limit(harmed, helped, n, alpha)),
        upper=float(tango.upper_limit(harmed, helped, n, alpha)),
        harmed=int(harmed),
        helped=int(helped),
        flip_rate=float((harmed + helped) / n),
    )


def assessed_parts(table: Counts, min_group_size: int) -> list[Assessed]:
    """The groups of every partition that are large enough, at least two of each.

    Raises:
      UserError: fewer than two groups of a partition are large enough.
    """
    parts = [counts.assessed_groups(table, part, min_group_size) for part in table.partitions]
    for part, whole in zip(parts, table.partitions, strict=True):
        if len(part.names) < 2:
            of = f" of {whole.attribute!r}" if whole.attribute else ""
            raise UserError(
                f"a group is compared with the other samples, so at least two groups{of} must have "
                f"min_group_size={min_group_size} samples or more; got {len(part.names)} of "
                f"{len(whole.names)} groups ({first_of(whole.names, 5)}). Group by something else, "
                "join small groups, or lower min_group_size."
            )
    return parts


def verdict_of(parts: Sequence[Assessed], tolerance: float, alpha: float) -> str:
    """The verdict alone, without anything else of the audit.

    Args:
      parts: the assessed groups of every partition.
      tolerance: as in `compare`.
      alpha: as in `compare`.
    """
    p = np.concatenate([excess.p_values(part.table, tolerance) for part in parts])
    if excess.holm_rejects(p, alpha).any():
        return VIOLATED
    within = all((excess.upper_limit(part.table, alpha) <= tolerance).all() for part in parts)
    return SATISFIED if within else UNDECIDED


def skipped_groups(table: Counts, min_group_size: int) -> tuple[Skipped, ...]:
    """The groups of every partition that are too small."""
    return tuple(
        Skipped(part.attribute, name, int(n))
        for part in table.partitions
        for name, n in zip(part.names, counts.by_group(table, part).n, strict=True)
        if n < min_group_size
    )


def _groups(parts, flip_rate, tolerance, alpha):
    p = np.concatenate([excess.p_values(part.table, tolerance) for part in parts])
    violated = iter(excess.holm_rejects(p, alpha).tolist())
    return [
        row._replace(verdict=VIOLATED) if next(violated) else row
        for part in parts
        for row in _rows(part, flip_rate, tolerance, alpha)
    ]


def _rows(part: Assessed, flip_rate, tolerance, alpha):
    """Every group as if it were the only one."""
    n, harmed, helped, both_right = table = part.table
    upper = excess.upper_limit(table, alpha)
    extra = _SAMPLES_AT_THE_OVERALL_RATE
    rates = (harmed + helped + extra * flip_rate) / (n + extra)
    columns = (
        n,
        harmed,
        helped,
        (both_right + harmed) / n,
        (both_right + helped) / n,
        excess.mean_loss(table),
        excess.excess_gap(table),
        excess.lower_limit(table, alpha),
        upper,
        np.zeros(len(n)),
        np.where(upper <= tolerance, SATISFIED, UNDECIDED),
        _needed(rates, n / n.sum(), tolerance, alpha),
    )
    values = zip(part.names, *(column.tolist() for column in columns), strict=True)
    return [GroupResult(part.attribute, *row) for row in values]


def _needed(rates, shares, tolerance, alpha):
    if tolerance == 0:
        return np.full(len(rates), None)
    return planning.samples_per_group(rates, shares, tolerance, alpha)


def _verdict(verdicts):
    if VIOLATED in verdicts:
        return VIOLATED
    return SATISFIED if set(verdicts) == {SATISFIED} else UNDECIDED


def _label(group, groups):
    alike = [other for other in groups if other.name == group.name]
    return group.name if len(alike) == 1 else f"{group.attribute}={group.name}"
