"""JAX's strict type promotion, a setting for the user's own code, stops no pruner."""

import jax
import optax
import pytest

from bap_jax import pruning
from tests.pruning.updaters import NAMES, layers, leaves, make

PARAMS = layers(leaves())


@pytest.mark.parametrize("counting", ["round", "ceil"])
@pytest.mark.parametrize("name", NAMES)
def test_strict_promotion_stops_no_pruner(name, counting):
    fields = {} if name == "no_prune" else {"counting": counting}
    updater = make(name, **fields)
    with jax.numpy_dtype_promotion("strict"):
        tx = updater.wrap_optax(optax.adam(0.1))
        jax.eval_shape(tx.update, PARAMS, tx.init(PARAMS), PARAMS)
        state = updater.init_state(PARAMS)
        jax.eval_shape(updater.update_state, state, PARAMS, PARAMS)
        jax.eval_shape(lambda params: updater.instant_sparsify(params, params), PARAMS)
        if name != "no_prune":
            pruning.sparsity(PARAMS, state.masks)
