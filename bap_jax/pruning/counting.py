"""How many of n weights stay at sparsity s: two rules, by name.

    ceil    n − ⌈s n⌉ , the product in double precision (the paper's code): .07 · 100 removes 8
    round   max(1, round(n (1 − s))) in float32, halves to even (jaxpruner); s = 0 keeps all

The rule `ceil` needs the sparsity as a Python number to be exact. Of a traced sparsity it knows the
float32 value only, and works with that.
"""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.pruning.sparsity_schedules import exact_sparsities, update_index
from bap_jax.types import Array, UserError


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
    """Finds a rule that does not exist.

    Raises:
      UserError: the name is unknown; the message lists the known ones.
    """
    if rule not in RULES:
        raise UserError(f"unknown counting rule {rule!r}; known: {', '.join(RULES)}.")


def kept_count(rule: str, sparsity: Array | float, size: int) -> Array | int:
    """How many of `size` entries stay.

    Args:
      rule: a key of `RULES`.
      sparsity: s in [0, 1]; a number, or a traced `()` float.
      size: n.

    Returns:
      An int, or a `()` int32 where `sparsity` is an array.

    Raises:
      UserError: the rule is unknown.
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
      `(leaf, update)` int32, for `counts_at`. None where there is no tensor, a target is no Python
      number, or the schedule cannot tell its sparsities beforehand.
    """
    if not targets or not all(isinstance(target, numbers.Real) for target in targets):
        return None
    rows = [exact_sparsities(schedule, target) for target in targets]
    if any(row is None for row in rows):
        return None
    pairs = zip(rows, sizes, strict=True)
    counts = [[kept_count(rule, float(one), size) for one in row] for row, size in pairs]
    return np.array(counts, np.int32)


def counts_at(table: Array, schedule: Any, step: Array | int) -> Array:
    """`(leaf,)` int32, the column of a `count_table` that holds at `step`."""
    now = update_index(schedule, step)
    return jax.lax.dynamic_index_in_dim(jnp.asarray(table), now, 1, keepdims=False)
