"""Dense and sparse phases in turn, with masks and optimiser of its own making."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from bap_jax.pruning import jaxpruner


def forget(state):
    """An optimiser's state with fresh moments, for the optimisers that we use."""
    if isinstance(state, optax.TraceState):
        return state._replace(trace=jax.tree.map(jnp.zeros_like, state.trace))
    if isinstance(state, optax.ScaleByAdamState):
        zeros = jax.tree.map(jnp.zeros_like, (state.mu, state.nu))
        return state._replace(mu=zeros[0], nu=zeros[1])
    if type(state) is tuple:
        return tuple(map(forget, state))
    return state


@dataclasses.dataclass
class Phases(jaxpruner.algorithms.MagnitudePruning):
    """Dense for some steps, then sparse and dense by turns, sparse from `stay_sparse` on."""

    dense_first: int = 0
    stay_sparse: int = 0
    sparse_steps: int = 1
    dense_steps: int = 1
    forget_moments: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.scheduler = jaxpruner.sparsity_schedules.PeriodicSchedule(
            update_freq=1, update_start_step=0, update_end_step=2**31 - 1
        )

    def update_state(self, sparse_state, params, grads):
        step = sparse_state.count
        jax.debug.callback(lambda step: SEEN.append(int(step)), step)
        place = (step - self.dense_first) % (self.sparse_steps + self.dense_steps)
        last = step == self.stay_sparse

        def to_sparse():
            scores = self.calculate_scores(params, sparse_state=sparse_state, grads=grads)
            return self.with_masks(
                sparse_state, self.create_masks(scores, sparse_state.target_sparsities)
            )

        def to_dense():
            masks = self.get_initial_masks(params, sparse_state.target_sparsities)
            return self.with_masks(sparse_state, masks)

        def turn():
            state = jax.lax.cond((place == 0) | last, to_sparse, lambda: sparse_state)
            back = (place == self.sparse_steps) & ~last
            return jax.lax.cond(back, to_dense, lambda: state)

        turns = (self.dense_first <= step) & (step <= self.stay_sparse)
        return jax.lax.cond(turns, turn, lambda: sparse_state)

    def with_masks(self, state, masks):
        if self.use_packed_masks:
            masks = jax.tree.map(jnp.packbits, masks)
        inner = forget(state.inner_state) if self.forget_moments else state.inner_state
        return state._replace(masks=masks, inner_state=inner)


SEEN = []


def add_to_jaxpruner():
    jaxpruner.ALGORITHM_REGISTRY["phases"] = Phases
    jaxpruner.ALGORITHMS = tuple(jaxpruner.ALGORITHM_REGISTRY.keys())
