"""How the multipliers behaved, as a section of `report.json` and as a sentence.

What a multiplier means is said by what it did to its group: the loss of group g had the weight ω_g
in the gradient where its share of the samples is w_g, so the group was *worth ω_g/w_g times its
share*; without a constraint on the overall loss that is (w_g + λ_g)/w_g. λ is that of the last
epoch, or where it oscillates the mean of the last fifth, as its last value says little.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from bap_jax._tables.shown import MINUS, clipped
from bap_jax.reporting.behaviour import (
    AT_REST,
    FEWEST_EPOCHS,
    MOVING,
    OSCILLATING,
    SETTLED,
    STUCK,
    TOO_FEW,
    Behaviour,
    ConstrainedGroups,
    behaviour,
)
from bap_jax.reporting.feasibility import LEFT_OUT, NOT_OBSERVED, History

STATUSES = (NOT_OBSERVED, AT_REST, SETTLED, TOO_FEW, MOVING, OSCILLATING, STUCK)  # the worst last
_WORDS = {STUCK: "stuck while violated", TOO_FEW: "observed in too few epochs to tell"}
_NAMED, _NAME_WIDTH = 2, 30
_NOTICED = 1.1  # a weight that differs by less is called a group's share


def multiplier_behaviour(
    history: History,
    names: Sequence[str],
    groups: ConstrainedGroups | None = None,
    *,
    bounds_violations: bool = True,
    left_out: Collection[str] = (),
    at_most: int = 1000,
) -> dict[str, Any] | None:
    """How the multipliers of a run behaved.

    Args:
      history, names, groups, bounds_violations, left_out: as in `behaviour.behaviour`.
      at_most: with more constraints, only the 20 with the largest |λ| are listed.

    Returns:
      What `report.json` holds under `multipliers`, see docs/outputs.md: `status` (the worst of all
      constraints that were observed), `sentence`, and a list `constraints`, largest |λ| first.
      None if there are no constraints.
    """
    if not len(names):
        return None
    options = {"bounds_violations": bounds_violations, "left_out": left_out}
    found = behaviour(history, names, groups, **options)
    worth = _worth(found, groups)
    order = np.argsort(-np.abs(np.nan_to_num(found.typical)), kind="stable").tolist()
    listed = order if len(order) <= at_most else order[:20]
    statuses = [status for status in found.statuses if status != LEFT_OUT]
    return {
        "status": max(statuses, key=STATUSES.index, default=NOT_OBSERVED),
        "sentence": _sentence(found, names, groups, worth),
        "constraints": [_row(c, names[c], found, groups, worth) for c in listed],
    }


def _worth(found: Behaviour, groups: ConstrainedGroups | None) -> np.ndarray:
    """`(group,)` ω_g / w_g; NaN where it is unknown."""
    if groups is None or groups.weights is None or not found.epochs:
        return np.full(len(groups.names) if groups else 0, np.nan)
    share = np.asarray(groups.share, float)
    weights = np.asarray(groups.weights(share, found.typical), float)
    return np.divide(weights, share, out=np.full(share.size, np.nan), where=share > 0)


def _row(c, name, found, groups, worth) -> dict[str, Any]:
    group = -1 if groups is None else groups.of_constraint[c]
    is_known = found.statuses[c] not in (TOO_FEW, NOT_OBSERVED, LEFT_OUT)
    return {
        "name": name,
        "status": found.statuses[c],
        "multiplier": _plain(found.last[c]),
        "mean": _plain(found.mean[c]) if is_known else None,
        "amplitude": _plain(found.amplitude[c]) if is_known else None,
        "worth": _plain(worth[group]) if group >= 0 else None,
    }


def _plain(value) -> float | None:
    return float(value) if np.isfinite(value) else None


def _sentence(found: Behaviour, names, groups, worth) -> str:
    """The sentence: what most multipliers did, the largest of each kind, and what it was worth."""
    counts = Counter(status for status in found.statuses if status not in (LEFT_OUT, NOT_OBSERVED))
    total = counts.total()
    if not total:
        return "Multipliers: no constraint was observed."
    head = "Multiplier" if total == 1 else "Multipliers"
    if counts[TOO_FEW] == total:
        which = "each was" if total > 1 else "it was"
        text = f"too few epochs to tell ({which} observed in fewer than {FEWEST_EPOCHS})"
    elif counts[AT_REST] == total:
        text = f"all {total:,} at rest at 0" if total > 1 else "at rest at 0"
    elif counts[SETTLED] + counts[AT_REST] == total:
        text = "settled" + f" ({counts[AT_REST]:,} of {total:,} at rest)" * (counts[AT_REST] > 0)
    else:
        text = ", ".join(_clauses(found, names, groups, counts))
    return f"{head}: {text}{_in_words(found, names, groups, worth)}."


def _clauses(found, names, groups, counts):
    """What some multipliers did, the worst first, with the two largest of each."""
    total, is_first = counts.total(), True
    for status in reversed(STATUSES):
        if not counts[status]:
            continue
        number = f"{counts[status]:,} of {total:,} " if is_first else f"{counts[status]:,} "
        chosen = [c for c, one in enumerate(found.statuses) if one == status]
        details = _details(status, chosen, found)
        listed = "; ".join(f"{_label(names[c], c, groups)} {what}" for c, what in details)
        yield number * (total > 1) + _WORDS.get(status, status) + f" ({listed})" * bool(listed)
        is_first = False


def _details(status, chosen, found):
    """Of the constraints with one status the two that matter most, and what they did."""
    amplitude = found.amplitude
    if status == OSCILLATING:
        for c in _largest(chosen, amplitude):
            share = amplitude[c] / found.size[c]
            of_size = f"{100 * share:.0f} % of its size" if share <= 1 else "more than its size"
            yield c, f"by ± {_number(amplitude[c])}, {of_size}"
    elif status == STUCK:
        for c in _largest(chosen, np.abs(found.last)):
            yield c, f"at {_number(found.last[c])}"
    elif status == MOVING:
        for c in _largest(chosen, amplitude):
            ends = found.first[c], found.last[c]
            if found.has_trend[c]:
                yield c, f"from {_number(ends[0])} to {_number(ends[1])}"
            else:
                yield c, f"between {_number(found.low[c])} and {_number(found.high[c])}"


def _largest(chosen, values):
    return sorted(chosen, key=lambda c: -values[c])[:_NAMED]


def _in_words(found, names, groups, worth) -> str:
    """λ in words, what groups were worth; as a number where it does not weigh their losses."""
    if np.isfinite(worth).any():
        return "; " + _worth_in_words(groups, worth)
    largest = _largest(range(len(names)), np.abs(found.typical))
    listed = [
        f"{_number(found.typical[c])} ({_label(names[c], c, groups)})"
        for c in largest
        if found.typical[c]
    ]
    return f"; largest λ: {', '.join(listed)}" if listed else ""


def _worth_in_words(groups, worth) -> str:
    with np.errstate(divide="ignore", over="ignore"):
        factor = np.where(worth > 0, np.maximum(worth, 1 / worth), np.inf)
    factor = np.where(np.isfinite(worth), factor, 0)
    noticed = [g for g in _largest(range(len(worth)), factor) if factor[g] >= _NOTICED]
    if not noticed:
        return "every group was worth about its share"
    (first, worth_of_first), *others = (
        (_group(groups.label(g)), f"{_factor(worth[g])} ×") for g in noticed
    )
    text = f"{first} was worth {worth_of_first} its share"
    return text + f" ({', '.join(map(': '.join, others))})" * bool(others)


def _label(name: str, c: int, groups: ConstrainedGroups | None) -> str:
    """A constraint's name, which says "group" before the name of a group."""
    if groups is not None and groups.of_constraint[c] >= 0:
        group = groups.of_constraint[c]
        before = name.removesuffix(str(groups.names[group]))
        if before != name and (not before or before.endswith(" ")):
            return clipped(before, _NAME_WIDTH) + _group(groups.label(group))
    return clipped(name, _NAME_WIDTH)


def _group(name: str) -> str:
    prefix = "" if name.lower().startswith("group ") else "group "
    return prefix + clipped(name, _NAME_WIDTH)


def _factor(value: float) -> str:
    return f"{value:.1f}" if 1 <= abs(value) < 9.95 else _number(value)


def _number(value: float) -> str:
    """Two digits, and all that stand before the point: 0.31, 3.1, 31, 3,100."""
    text = f"{value:,.0f}" if 10 <= abs(value) < 1e6 else f"{value:.2g}"
    return text.replace("-", MINUS)
