"""What `audit.compare` says of the network of a single seed, for a comparison of methods."""

import dataclasses
from typing import NamedTuple

import numpy as np

from bap_jax.audit import assessment, chance, excess
from bap_jax.audit.counts import Assessed, Counts, Table
from bap_jax.audit.resampling import Outcomes


class Options(NamedTuple):
    """As the arguments of `audit.compare`."""

    alpha: float
    tolerance: float
    min_group_size: int


def verdicts(data: Outcomes, method: int, table: Counts, options: Options) -> tuple[str, ...]:
    """The verdict on the network of each seed.

    Args:
      data: outcomes.
      method: its number.
      table: the cells, and the groups that they belong to.
      options: of the audit.
    """
    found = []
    for seed in range(len(data.losses[method])):
        parts = _parts(_counted(data, method, seed, table), options)
        found.append(assessment.verdict_of(parts, options.tolerance, options.alpha))
    return tuple(found)


def of_one_seed(data: Outcomes, method: int, table: Counts, options: Options, seed: int):
    """Limits of the groups, and the largest gap by chance with its p-value, of the first seed.

    Args:
      data: outcomes.
      method: its number.
      table: the cells, and the groups that they belong to.
      options: of the audit.
      seed: of the permutations.
    """
    counted = _counted(data, method, 0, table)
    parts = _parts(counted, options)
    limits = [
        np.concatenate([limit(part.table, options.alpha) for part in parts])
        for limit in (excess.lower_limit, excess.upper_limit)
    ]
    found = chance.chance_of_largest(counted.cells, parts, seed=seed)
    return limits, (found.expected, found.p_value)


def _parts(counted, options) -> list[Assessed]:
    return assessment.assessed_parts(counted, options.min_group_size)


def _counted(data, method, seed, table) -> Counts:
    loss, right = data.losses[method][seed], data.right[method][seed]
    columns = (np.ones_like(right), loss == 1, loss == -1, right & (loss == 0))
    cells = Table(*(np.add.reduceat(data.count * column, data.first) for column in columns))
    return dataclasses.replace(table, cells=cells)
