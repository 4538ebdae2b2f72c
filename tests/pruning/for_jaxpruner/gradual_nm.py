"""N:M that is reached step by step: weights outside the pattern go first, the smallest first."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from bap_jax.pruning import jaxpruner
from bap_jax.pruning.jaxpruner import base_updater, mask_calculator, sparsity_types


def gradual_mask(scores, sparsity, sparsity_type):
    def prune(scores, sparsity):
        # An earlier version of the function had no sparsity.
        pattern = mask_calculator.topk_n_by_m_mask_calculator(scores, sparsity_type)
        ranked = jnp.where(pattern == 1, jnp.max(scores) + 1e-5, scores)
        return mask_calculator._topk_mask_calculator_internal(ranked, sparsity)

    def keep(scores, sparsity):
        return jnp.ones_like(scores, dtype=mask_calculator.MASK_DTYPE)

    return jax.lax.cond(sparsity == 0, keep, prune, scores, sparsity)


def topk_of(sparsity_type):
    if isinstance(sparsity_type, sparsity_types.NByM):
        return functools.partial(gradual_mask, sparsity_type=sparsity_type)
    return mask_calculator.get_topk_fn(sparsity_type)


@dataclasses.dataclass
class GradualNM(base_updater.BaseUpdater):
    """Magnitudes, with a `topk_fn` that `__post_init__` puts in place without its parent's."""

    def __post_init__(self):
        self.topk_fn = topk_of(self.sparsity_type)
        if self.rng_seed is None:
            self.rng_seed = jax.random.PRNGKey(8)

    def calculate_scores(self, params, sparse_state=None, grads=None):
        del sparse_state, grads
        return jax.tree.map(jnp.abs, params)


def add_to_jaxpruner():
    jaxpruner.register_algorithm("gradual_nm", GradualNM)
