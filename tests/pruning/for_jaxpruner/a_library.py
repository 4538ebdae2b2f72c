"""As much of a library like jaxpruner as `from_jaxpruner` looks at, for tests without the real one.

It calls `jax.tree_map`, which newer versions of jax no longer have.
"""

import dataclasses
import functools
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class SparseState(NamedTuple):
    masks: Any
    inner_state: Any = None
    target_sparsities: Any = None
    count: Any = None


class NoUpdateSchedule:
    def get_sparsity_at_step(self, target_sparsities, step):
        return target_sparsities

    def is_mask_update_iter(self, step):
        return False


@dataclasses.dataclass
class OneShotSchedule(NoUpdateSchedule):
    target_step: int

    def is_mask_update_iter(self, step):
        return step == self.target_step


class PeriodicSchedule(NoUpdateSchedule):
    pass


class PolynomialSchedule(NoUpdateSchedule):
    pass


@dataclasses.dataclass
class BaseUpdater:
    """Keeps what is larger than `least`."""

    scheduler: Any = dataclasses.field(default_factory=NoUpdateSchedule)
    least: float = 0.4
    use_packed_masks: bool = False
    is_sparse_gradients: bool = False
    skip_gradients: bool = False

    def calculate_scores(self, params, sparse_state=None, grads=None):
        return jax.tree_map(jnp.abs, params)

    def init_state(self, params):
        masks = jax.tree_map(lambda leaf: jnp.ones(leaf.shape, jnp.uint8), params)
        return SparseState(masks, None, None, jnp.zeros([], jnp.int32))

    def update_state(self, sparse_state, params, grads):
        scores = self.calculate_scores(params, sparse_state=sparse_state, grads=grads)
        masks = jax.tree_map(lambda score: (score > self.least).astype(jnp.uint8), scores)
        return sparse_state._replace(masks=masks)

    def apply_masks(self, params, masks, is_packed=False):
        return jax.tree_map(lambda leaf, mask: leaf * mask, params, masks)

    def pre_forward_update(self, params, opt_state):
        return params

    def post_gradient_update(self, params, sparse_state):
        return self.apply_masks(params, sparse_state.masks)

    def wrap_optax(self, inner):
        raise NotImplementedError("the adapter has its own")


class NoPruning(BaseUpdater):
    def update_state(self, sparse_state, params, grads):
        return sparse_state


class MagnitudePruning(BaseUpdater):
    pass


class RandomPruning(BaseUpdater):
    pass


class StaticRandomSparse(BaseUpdater):
    def update_state(self, sparse_state, params, grads):
        return sparse_state


class SET(StaticRandomSparse):
    def update_state(self, sparse_state, params, grads):
        if not isinstance(sparse_state.inner_state, (optax.TraceState, optax.EmptyState)):
            raise ValueError(f"unknown optimiser {type(sparse_state.inner_state)}")
        return BaseUpdater.update_state(self, sparse_state, params, grads)


class SteMixin:
    def update_state(self, sparse_state, params, grads):
        return sparse_state


class OwnWrapping(BaseUpdater):
    """With a `wrap_optax` of its own, which decays removed weights."""

    decay = 0.5

    def wrap_optax(self, inner):
        def init(params):
            return self.init_state(params)._replace(inner_state=inner.init(params))

        def update(updates, state, params):
            updates = jax.tree_map(
                lambda grad, leaf, mask: grad + self.decay * leaf * (1 - mask),
                updates,
                params,
                state.masks,
            )
            updates, inner_state = inner.update(updates, state.inner_state, params)
            new = jax.lax.cond(
                self.scheduler.is_mask_update_iter(state.count),
                functools.partial(self.update_state, grads=updates),
                lambda state, params: state,
                state,
                params,
            )
            return updates, new._replace(inner_state=inner_state, count=state.count + 1)

        return optax.GradientTransformation(init, update)

    def post_gradient_update(self, params, sparse_state):
        return params


class ByMoments(BaseUpdater):
    """Scores from the optimiser."""

    def calculate_scores(self, params, sparse_state=None, grads=None):
        return optax.tree.get(sparse_state.inner_state, "trace")


sparsity_schedules = types.SimpleNamespace(
    NoUpdateSchedule=NoUpdateSchedule,
    OneShotSchedule=OneShotSchedule,
    PeriodicSchedule=PeriodicSchedule,
    PolynomialSchedule=PolynomialSchedule,
)
algorithms = types.SimpleNamespace(ste=types.SimpleNamespace(SteMixin=SteMixin))
