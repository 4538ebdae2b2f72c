"""A comparison of methods in words: sentences, and a text for the terminal."""

import collections
from collections.abc import Iterable

from bap_jax.audit.comparison import Interval, MethodComparison, MethodDifference, MethodResult
from bap_jax.audit.labels import namer_of
from bap_jax.audit.numbers import (
    count,
    decimal,
    digits_for,
    interval,
    level,
    p_value,
    percent,
    points,
    tolerance,
)
from bap_jax.audit.result import SATISFIED, UNDECIDED, VIOLATED
from bap_jax.audit.text import wrapped
from bap_jax.errors import first_of

CHANCE, SAME = "chance may explain it", "no difference"
VERDICTS = (VIOLATED, UNDECIDED, SATISFIED)
_SPACE = "\N{NO-BREAK SPACE}"


def conclusion(value: Interval, below: str, above: str, neutral: float = 0.0) -> str:
    """What an interval says: one of the two words, or that chance may explain the difference."""
    if value.lower == value.upper == neutral:
        return SAME
    if value.upper < neutral:
        return below
    return above if value.lower > neutral else CHANCE


def differences(
    row: MethodDifference, methods: Iterable[MethodResult]
) -> list[tuple[str, str, str]]:
    """For each quantity its name, the difference with its interval, and what that says.

    Args:
      row: of one method against the baseline.
      methods: the results of both, perhaps among others; where the spread of both is 0, that is
        said in place of a ratio.
    """
    in_points = [
        ("accuracy", row.accuracy, "lower", "higher"),
        ("flips", row.flip_rate, "fewer", "more"),
        ("true largest gap", row.bayes_max, "smaller", "larger"),
    ]
    digits = _digits_of([value for _, value, _, _ in in_points])
    found = [
        (
            name,
            f"{points(value.estimate, digits, sign=True)} points "
            f"({interval(value.lower, value.upper, digits)})",
            conclusion(value, below, above),
        )
        for name, value, below, above in in_points
    ]
    words, says = _spreads(row, methods)
    return [*found, ("spread over groups", words, says)]


def _spreads(row, methods):
    """The ratio of two spreads and what it says; of two that are 0 there is none."""
    both = [found.spread.estimate for found in methods if found.name in (row.name, row.baseline)]
    if both and not any(both):
        return "both estimated as 0", SAME
    ratio = row.spread_ratio
    words = f"× {_ratio(ratio.estimate)} ({_ratio(ratio.lower)} to {_ratio(ratio.upper)})"
    return words, conclusion(ratio, "smaller", "larger", 1.0)


def _digits_of(intervals: Iterable[Interval]) -> int:
    """Decimals of points that tell the limits of these intervals apart."""
    return digits_for([value.upper - value.lower for value in intervals])


def _ratio(value):
    return "∞" if value == float("inf") else decimal(value, 1)


def comparison_sentence(comparison: MethodComparison) -> str:
    """What differs beyond chance, and what chance may explain, for every method."""
    samples = count(comparison.n, "sample")
    if not comparison.differences:
        return f"{comparison.methods[0].name} alone on {samples}: nothing to compare it with."
    sentences = []
    for row in comparison.differences:
        found = differences(row, comparison.methods)
        clear = [f"{word} {name}" for name, _, word in found if word not in (CHANCE, SAME)]
        unclear = [name for name, _, word in found if word == CHANCE]
        parts = [", ".join(clear)] if clear else []
        if unclear:
            parts.append(f"chance may explain {_listed(unclear, bool(clear))}")
        sentences.append(f"{row.name} against {row.baseline}: {'; '.join(parts) or SAME}.")
    return f"On {samples}, {' '.join(sentences)}"


def _listed(names, has_others):
    if not has_others and len(names) == 4:
        return "every difference"
    start = f"{', '.join(names[:-1])} and " if len(names) > 1 else ""
    return f"the differences in {start}{names[-1]}"


def format_comparison(comparison: MethodComparison) -> str:
    """The whole comparison for a terminal.

    Args:
      comparison: the result of `compare_methods`.
    """
    covered = level(1 - 2 * comparison.alpha)
    groups = count(len(comparison.methods[0].groups), "group")
    head = (
        f"{count(len(comparison.methods), 'method')} on {count(comparison.n, 'sample')} in "
        f"{groups}, ε = {tolerance(comparison.tolerance)}; dense accuracy "
        f"{percent(comparison.dense_accuracy, 2)}. In brackets {covered} intervals over "
        f"{count(comparison.resamples, 'resample')} of samples and seeds."
    )
    lines = [*wrapped(comparison_sentence(comparison)), "", *wrapped(head)]
    for row in comparison.methods:
        lines += ["", f"{row.name}, {count(row.seeds, 'seed')}", *_fields(method_facts(row))]
    for row in comparison.differences:
        found = differences(row, comparison.methods)
        pairs = [(name, f"{words}: {says}") for name, words, says in found]
        lines += ["", f"{row.name} against {row.baseline}", *_fields(pairs)]
    if comparison.not_assessed:
        small = [f"{row.name} ({row.n})" for row in comparison.not_assessed]
        lines += ["", *wrapped(f"Groups that are too small to assess: {first_of(small, 10)}.")]
    return "\n".join(lines).replace(_SPACE, " ")


def method_facts(row: MethodResult) -> list[tuple[str, str]]:
    """The numbers of one method, by name."""
    worst = row.groups[0]
    label = namer_of(row.groups)(worst)
    digits = _digits_of([row.accuracy, row.flip_rate, row.bayes_max, row.spread])

    def limits(value):
        return interval(value.lower, value.upper, digits)

    return [
        ("verdict", _verdict(row)),
        (
            "accuracy",
            f"{percent(row.accuracy.estimate, max(digits, 2))} ({limits(row.accuracy)})",
        ),
        (
            "flips",
            f"{percent(row.flip_rate.estimate, digits)} ({limits(row.flip_rate)})",
        ),
        (
            "largest excess gap",
            f"{points(row.max_excess_gap.estimate, digits)} points, group {label}; chance alone: "
            f"{points(row.expected_by_chance, digits)} ({p_value(row.p_value)})",
        ),
        (
            "true largest gap",
            f"{points(row.bayes_max.estimate, digits)} points, estimated ({limits(row.bayes_max)})",
        ),
        (
            "spread over groups",
            f"{points(row.spread.estimate, digits)} points ({limits(row.spread)})",
        ),
    ]


def _verdict(row):
    """Of the only seed, of all, or how many of them have which."""
    numbers = collections.Counter(row.verdicts)
    if row.seeds == 1:
        return row.verdicts[0]
    if len(numbers) == 1:
        return f"{row.verdicts[0]} for every seed"
    return ", ".join(f"{name} for {numbers[name]}" for name in VERDICTS if numbers[name]) + " seeds"


def _fields(pairs):
    return [line for name, words in pairs for line in wrapped(f"  {name:<20}{words}", indent=22)]
