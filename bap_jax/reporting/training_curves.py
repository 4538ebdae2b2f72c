"""How violations and multipliers moved, from `metrics.jsonl`, as figures of `report.html`."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bap_jax._tables.shown import visible
from bap_jax.audit.numbers import count
from bap_jax.audit.page import Part
from bap_jax.audit.svg.curves import Level, Series, draw_curves

MOST_STEPS, MOST_CURVES = 400, 10


def training_parts(metrics: Path, names: Sequence[str]) -> list[Part]:
    """Loss, violations and multipliers over the steps.

    At most 400 steps are read, evenly spaced, and at most ten constraints drawn: those with the
    largest multipliers in the end, then those with the largest violations.

    Args:
      metrics: path of `metrics.jsonl`.
      names: of the constraints, in the order of its lists.

    Returns:
      Nothing if there are no steps.
    """
    rows = _read(metrics)
    if not rows:
        return []
    steps = np.array([row["step"] for row in rows])
    loss = Series("loss", steps, _numbers(rows, "loss"))
    title = "Loss of the batches, cross-entropy in nats"
    parts: list[Part] = [draw_curves([loss], "figure-loss", title, x_words="step")]
    if "multipliers" in rows[0]:
        return [*_of_constraints(rows, steps, names), *parts]
    if "max_violation" in rows[0]:
        return [*_of_summaries(rows, steps), *parts]
    return parts


def _read(metrics):
    """The rows of at most `MOST_STEPS` steps; the first and the last are among them."""
    number = sum(1 for _ in _lines_of_steps(metrics))
    chosen = set(np.linspace(0, number - 1, min(MOST_STEPS, number)).astype(int).tolist())
    return [json.loads(line) for i, line in enumerate(_lines_of_steps(metrics)) if i in chosen]


def _lines_of_steps(metrics):
    """One at a time: the file of a long run may be larger than the memory."""
    with metrics.open("rb") as file:
        yield from (line for line in file if line.startswith(b'{"step"'))


def _numbers(rows, key):
    return np.array([np.nan if row[key] is None else row[key] for row in rows], float)


def _of_constraints(rows, steps, names):
    multipliers = np.array([row["multipliers"] for row in rows], float)
    violations = np.array([row["violation"] for row in rows], float)
    seen = np.where(np.isfinite(violations), violations, -np.inf).max(axis=0)
    order = np.lexsort((-seen, -multipliers[-1]))[:MOST_CURVES]
    few = f", the {MOST_CURVES} of {count(len(names))} that ended with the largest multipliers"
    which = few if len(names) > MOST_CURVES else ""
    return [
        _figure(
            [
                Series(visible(names[i]), steps, values[:, i])
                for i in order
                if _is_finite(values[:, i])
            ],
            name,
            f"{title}{which}",
            caption,
            levels,
        )
        for values, name, title, caption, levels in (
            (violations, "figure-violations", "Violations", _VIOLATION, [Level(0.0, "bound")]),
            (multipliers, "figure-multipliers", "Multipliers", _MULTIPLIER, []),
        )
        if np.isfinite(values).any()
    ]


_VIOLATION = (
    "As training estimates them; a constraint holds at or below 0. Differences of accuracy as "
    "fractions (0.01 is one point), or of losses in nats, depending on the method."
)
_MULTIPLIER = "How strongly each constraint pulls; 0 while it holds."


def _of_summaries(rows, steps):
    found = [
        (_numbers(rows, "max_violation"), "figure-violations", "Largest violation", _VIOLATION),
        (_numbers(rows, "max_multiplier"), "figure-multipliers", "Largest multiplier", _MULTIPLIER),
    ]
    return [
        _figure([Series(title.lower(), steps, values)], name, title, caption, [])
        for values, name, title, caption in found
        if _is_finite(values)
    ]


def _is_finite(values):
    return bool(np.isfinite(values).any())


def _figure(series, name, title, caption, levels):
    return draw_curves(series, name, title, caption=caption, levels=levels, x_words="step")
