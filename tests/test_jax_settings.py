"""JAX's settings for finding mistakes stop no run: they are for the user's own code."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bap_jax
from bap_jax import compilation
from bap_jax.training.settings import PruningSettings, Settings
from bap_jax.training.state import StepMetrics, on_host
from tests.test_pytree_inputs import SPLIT, TEST, Net, arrays, join

SHORT = Settings(pruning=PruningSettings(sparsity=0.8, epochs=1), finetune_epochs=1)


def prune_and_tune(**options):
    settings = dataclasses.replace(SHORT, **options)
    return bap_jax.prune_and_tune(
        Net(join), SPLIT, *arrays()[1:], test_indices=TEST, settings=settings
    )


@pytest.mark.smoke
@pytest.mark.parametrize(
    "setting",
    [
        jax.debug_nans(True),
        jax.numpy_dtype_promotion("strict"),
        jax.default_prng_impl("rbg"),
        jax.enable_checks(True),
    ],
    ids=["debug_nans", "strict", "rbg", "checks"],
)
def test_a_run_is_not_stopped(setting):
    with setting:
        found = prune_and_tune()
    assert np.isfinite(found.report["splits"]["test"]["max_excess_gap"])


@pytest.mark.parametrize("is_searching", [False, True])
def test_violations_that_were_not_seen_are_nan_on_the_host(is_searching):
    values, mask = jnp.array([[1.0, 0.0]]), jnp.array([[True, False]])
    numbers = StepMetrics(
        values[0, 0], values[0, 0], values[0, 0], values, *[values] * 2, mask, mask
    )
    with jax.debug_nans(is_searching):
        found = on_host(numbers)
    expected = [[1.0, np.nan]] if is_searching else values
    np.testing.assert_array_equal(found.violation, expected)
    np.testing.assert_array_equal(found.proxy, expected)
    assert found.violation.dtype == np.float32


def test_the_users_own_code_stays_strict():
    with jax.numpy_dtype_promotion("strict"):
        add = compilation.with_usual_promotion(lambda: jnp.int32(1) + jnp.float32(0.5))
        assert add() == 1.5
        with pytest.raises(Exception, match="strict"):
            jnp.int32(1) + jnp.float32(0.5)
