"""Importance from the optimiser: weights squared times Adam's second moment."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from bap_jax.pruning import jaxpruner


def adam_state(state):
    """The first state of Adam within an optimiser's state; None where there is none."""
    if isinstance(state, optax.ScaleByAdamState):
        return state
    if isinstance(state, tuple) and not hasattr(state, "_fields"):
        return next(filter(None, map(adam_state, state)), None)
    return None


def with_adam_state(state, new):
    if isinstance(state, optax.ScaleByAdamState):
        return new
    if isinstance(state, tuple) and not hasattr(state, "_fields"):
        return tuple(with_adam_state(part, new) for part in state)
    return state


@dataclasses.dataclass
class Curvature(jaxpruner.BaseUpdater):
    """θ² ν; may start Adam afresh where masks change."""

    reset_adam: bool = False

    def calculate_scores(self, params, sparse_state=None, grads=None):
        del grads
        found = adam_state(sparse_state.inner_state)
        if found is None:
            raise ValueError("no Adam here")
        return jax.tree.map(lambda p, nu: p**2 * nu, params, found.nu)

    def update_state(self, sparse_state, params, grads):
        state = super().update_state(sparse_state, params, grads)
        if not self.reset_adam:
            return state
        found = adam_state(state.inner_state)
        zeros = jax.tree.map(jnp.zeros_like, (found.mu, found.nu))
        fresh = found._replace(mu=zeros[0], nu=zeros[1])
        return state._replace(inner_state=with_adam_state(state.inner_state, fresh))


@dataclasses.dataclass
class PlainCurvature(jaxpruner.BaseUpdater):
    """The same scores, without an `update_state`."""

    calculate_scores = Curvature.calculate_scores


def add_to_jaxpruner():
    jaxpruner.register_algorithm("curvature", Curvature)
