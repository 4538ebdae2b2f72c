"""Samples that two models have right or wrong, for tests of the audit."""

import numpy as np


def make_samples(n=600, groups="abc", flip_rate=0.1, seed=0, harm=None):
    """Dense and sparse correctness and groups of random samples.

    Args:
      n: number of samples.
      groups: names of the groups.
      flip_rate: share of samples that flip.
      seed: of the random numbers.
      harm: for some groups a higher share of flips, all of them harmful.
    """
    random = np.random.default_rng(seed)
    names = random.choice(list(groups), n)
    dense = random.random(n) < 0.8
    sparse = np.where(random.random(n) < flip_rate, ~dense, dense)
    for name, share in (harm or {}).items():
        sparse &= ~((names == name) & (random.random(n) < share))
    return dense, sparse, names


def as_mapping(audit):
    """What an audit says, without the order of equal groups, to compare two of them."""
    result = audit.to_dict()
    result["groups"] = sorted(result["groups"], key=lambda row: (row["attribute"], row["name"]))
    result["not_assessed"].sort(key=lambda row: (row["attribute"], row["name"]))
    return result
