"""How many of n weights stay at sparsity s: two rules, by name.

    ceil    n − ⌈s n⌉ , the product in double precision (the paper's code): .07 · 100 removes 8
    round   max(1, round(n (1 − s))) in float32, halves to even (jaxpruner); s = 0 keeps all

The rule `ceil` is exact if the sparsity is a Python number. Of a traced sparsity only the float32
value is known, and the rule uses that. See docs/method.md, equation (12).
"""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.compilation import with_usual_promotion
from bap_jax.errors import UserError
from bap_jax.pruning.schedule_protocol import exact_sparsities, update_index
from bap_jax.types import Array


def _keep_ceil(sparsity, size):
    if isinstance(sparsity, numbers.Real):
        return size - math.ceil(sparsity * size)
    return size - jnp.ceil(sparsity * size).astype(jnp.int32)


def _keep_round(sparsity, size):
    if isinstance(sparsity, numbers.Real):
        if sparsity == 0:
            return size
        kept = np.round(np.float32(size) * (np.float32(1) - np.float32(sparsity)))
        return min(size, max(1, int(kept)))
    kept = jnp.round(size * (1 - sparsity)).astype(jnp.int32)
    return jnp.where(sparsity == 0, size, jnp.clip(kept, 1, size))


RULES = {"ceil": _keep_ceil, "round": _keep_round}


def check_counting(rule: str) -> None:
    """Raises an error for an unknown rule.

    Raises:
      UserError: the name is unknown; the message lists the known ones.
    """
    if rule not in RULES:
        raise UserError(f"unknown counting rule {rule!r}; known: {', '.join(RULES)}.")


@with_usual_promotion
def kept_count(rule: str, sparsity: Array | float, size: Array | int) -> Array | int:
    """How many of `size` entries stay.

    Args:
      rule: a key of `RULES`.
      sparsity: s in [0, 1]; a number, or a traced float of shape `()` or that of `size`.
      size: n.

    Returns:
      An int, or an int32 array where `sparsity` is an array.

    Raises:
      UserError: the rule is unknown.

    Example:
      >>> kept_count("ceil", 0.07, 100), kept_count("round", 0.07, 100)
      (92, 93)
    """
    check_counting(rule)
    if isinstance(sparsity, np.ndarray | np.generic):
        sparsity = float(sparsity)
    return RULES[rule](sparsity, size)


def count_table(
    rule: str, schedule: Any, targets: Sequence[Any], sizes: Sequence[int]
) -> np.ndarray | None:
    """How many entries of each tensor stay at each update of a schedule, in double precision.

    Args:
      rule: a key of `RULES`.
      schedule: see `sparsity_schedules.exact_sparsities`.
      targets: one for each tensor.
      sizes: entries of each tensor.

    Returns:
      `(leaf, update)` int32, for `counts_at`. None where there is no tensor, a target is not a
      Python number, or the schedule's sparsities are not known beforehand.
    """
    if not targets or not all(isinstance(target, numbers.Real) for target in targets):
        return None
    counts = []
    for target, size in zip(targets, sizes, strict=True):
        sparsities = exact_sparsities(schedule, target)
        if sparsities is None:
            return None
        counts.append([kept_count(rule, float(sparsity), size) for sparsity in sparsities])
    return np.array(counts, np.int32)


def counts_at(table: Array, schedule: Any, step: Array | int) -> Array:
    """`(leaf,)` int32, the column of a `count_table` for a step."""
    now = update_index(schedule, step)
    return jax.lax.dynamic_index_in_dim(jnp.asarray(table), now, 1, keepdims=False)
