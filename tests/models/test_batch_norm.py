"""Masked batch normalisation against the reference and against Flax's own."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bap_jax.errors import UserError
from bap_jax.models.batch_norm import BatchNorm, active_channels
from tests import golden_files

NORM = BatchNorm()
# Relative to the largest entry, or to 1 if that is more. The largest entry is 2 to 15: in a sum of
# dozens of such terms an absolute error of 2e-6 is the last bit.
TOLERANCE = 5e-7


def channels_last(array):
    return np.moveaxis(np.asarray(array), 1, -1)


def assert_close(found, expected, name):
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * scale, err_msg=name)


def fresh(channels):
    statistics = {"mean": jnp.zeros(channels), "var": jnp.ones(channels)}
    return {"scale": jnp.ones(channels), "bias": jnp.zeros(channels)}, statistics


def train(params, statistics, x, active=None):
    """Outputs and new statistics."""
    y, state = NORM.apply(
        {"params": params, "batch_stats": statistics}, x, active, train=True, mutable="batch_stats"
    )
    return y, state["batch_stats"]


def evaluate(params, statistics, x, active=None):
    return NORM.apply({"params": params, "batch_stats": statistics}, x, active, train=False)


@pytest.mark.parametrize("name", golden_files.cases("e/", "train0_out"))
def test_two_steps_of_training_and_an_evaluation(name):
    group = golden_files.case(f"e/{name.split('/')[0]}")
    golden, active = golden_files.case(f"e/{name}"), group.get(f"{name.split('/')[1]}/mask")
    params = {"scale": group["gamma"], "bias": group["beta"]}
    cotangent, inputs = channels_last(group["cotangent"]), [channels_last(x) for x in group["x"]]
    statistics = fresh(len(group["gamma"]))[1]

    @jax.jit
    def step_and_gradient(params, statistics, x):
        y, pullback, new = jax.vjp(
            lambda p, x: train(p, statistics, x, active), params, x, has_aux=True
        )
        return y, new, *pullback(cotangent)

    for step, x in enumerate(inputs[:-1]):
        y, new, grad_params, grad_x = jax.device_get(step_and_gradient(params, statistics, x))
        statistics = new
        found = {
            "out": np.moveaxis(y, -1, 1),
            "grad_x": np.moveaxis(grad_x, -1, 1),
            "grad_gamma": grad_params["scale"],
            "grad_beta": grad_params["bias"],
            "running_mean": new["mean"],
            "running_var": new["var"],
        }
        # Where every channel is inactive, no graph reaches the reference's inputs.
        missing = [key for key in found if f"train{step}_{key}" not in golden]
        assert not missing or not np.any(active)
        for key in found.keys() - set(missing):
            assert_close(found[key], golden[f"train{step}_{key}"], f"{key} {step}")
    with golden_files.settings(f"e/{name}/layer_stats") as stats:
        sizes = [sum(map(count, grad_params.values())) for count in (np.size, np.count_nonzero)]
        assert sizes[0] == stats.take("num_params", sizes[0])
        assert sizes[1] == stats.take("num_active", sizes[1])  # those that got a gradient
    y = np.moveaxis(jax.jit(evaluate)(params, statistics, inputs[-1], active), -1, 1)
    assert_close(y, golden["eval_out"], "eval_out")
    assert_close(statistics["mean"], golden["eval_running_mean"], "eval_running_mean")


class ConvNorm(nn.Module):
    """A 3×3 convolution and its normalisation."""

    features: int

    @nn.compact
    def __call__(self, x):
        conv = nn.Conv(self.features, (3, 3), padding=1, use_bias=False, name="conv")
        y = conv(x)
        active = active_channels(conv.variables["params"]["kernel"])
        return BatchNorm(name="norm")(y, active, train=True)


@pytest.mark.parametrize("name", golden_files.cases("e/", "feature_mask"))
def test_a_kernel_shows_which_channels_are_active(name):
    golden = golden_files.case(f"e/{name}")
    mask = np.transpose(golden["mask"], (2, 3, 1, 0))
    kernel = np.transpose(golden["weight"], (2, 3, 1, 0))
    np.testing.assert_array_equal(active_channels(kernel * mask), golden["feature_mask"])
    norm, statistics = fresh(kernel.shape[-1])
    module = ConvNorm(kernel.shape[-1])

    def forward(kernel, norm, x):
        variables = {
            "params": {"conv": {"kernel": kernel * mask}, "norm": norm},
            "batch_stats": {"norm": statistics},
        }
        return module.apply(variables, x, mutable="batch_stats")

    @jax.jit
    def forward_and_gradients(kernel, norm, x, cotangent):
        y, pullback, state = jax.vjp(forward, kernel, norm, x, has_aux=True)
        return y, state, *pullback(cotangent)

    x, cotangent = channels_last(golden["x"]), channels_last(golden["cotangent"])
    with jax.default_matmul_precision("highest"):
        y, state, grad_kernel, grad_norm, grad_x = jax.device_get(
            forward_and_gradients(kernel, norm, x, cotangent)
        )
    assert_close(np.moveaxis(y, -1, 1), golden["out"], "out")
    assert_close(np.moveaxis(grad_x, -1, 1), golden["grad_x"], "grad_x")
    assert_close(np.transpose(grad_kernel, (3, 2, 0, 1)), golden["grad_weight"], "grad_weight")
    assert_close(grad_norm["scale"], golden["grad_gamma"], "grad_gamma")
    assert_close(grad_norm["bias"], golden["grad_beta"], "grad_beta")
    new = state["batch_stats"]["norm"]
    assert_close(new["mean"], golden["running_mean"], "running_mean")
    assert_close(new["var"], golden["running_var"], "running_var")


X = jax.random.normal(jax.random.key(0), (5, 3, 3, 4)) * 3 + 1
PARAMS = {"scale": jnp.array([1.0, 2.0, -1.0, 0.5]), "bias": jnp.array([0.0, 1.0, 2.0, 3.0])}


def test_like_flax_but_for_the_unbiased_running_variance():
    other = nn.BatchNorm(use_running_average=False, momentum=0.9)
    statistics = fresh(4)[1]
    variables = {"params": PARAMS, "batch_stats": statistics}
    expected, state = other.apply(variables, X, mutable="batch_stats")
    y, new = train(PARAMS, statistics, X)
    np.testing.assert_allclose(y, expected, atol=5e-6)
    biased = (state["batch_stats"]["var"] - 0.9) / 0.1
    np.testing.assert_allclose((new["var"] - 0.9) / 0.1, biased * 45 / 44, rtol=1e-5)
    np.testing.assert_allclose(new["mean"], state["batch_stats"]["mean"], atol=1e-6)


def test_an_inactive_channel_passes_unchanged_and_gets_no_gradient():
    active = np.array([True, False, True, False])
    x = np.where(active, X, 0)
    x[0, 0, 0, 1] = 7
    statistics = {"mean": jnp.arange(4.0), "var": jnp.arange(4.0) + 1}

    @jax.jit
    def step_and_gradient(params, x):
        y, pullback, new = jax.vjp(
            lambda p, x: train(p, statistics, x, active), params, x, has_aux=True
        )
        return y, new, *pullback(X)

    y, new, grads, grad_x = jax.device_get(step_and_gradient(PARAMS, x))
    for output in (y, np.asarray(jax.jit(evaluate)(PARAMS, statistics, x, active))):
        np.testing.assert_array_equal(output[..., ~active], x[..., ~active])
    np.testing.assert_array_equal(grad_x[..., ~active], np.asarray(X)[..., ~active])
    for tree, expected in ((grads, {"scale": 0.0, "bias": 0.0}), (new, statistics)):
        for key, value in tree.items():
            kept = np.broadcast_to(expected[key], (4,))
            np.testing.assert_array_equal(value[~active], kept[~active])
    chex.assert_tree_all_finite((y, grads, grad_x, new))


def test_without_any_active_channel_the_output_is_zero_and_nothing_moves():
    nothing = jnp.zeros(4, bool)
    statistics = {"mean": jnp.arange(4.0), "var": jnp.arange(4.0) + 1}
    y, new = train(PARAMS, statistics, X, nothing)
    assert not y.any() and not evaluate(PARAMS, statistics, X, nothing).any()
    chex.assert_trees_all_equal(new, statistics)


def test_a_channel_of_zeros_has_finite_gradients():
    zeros = jnp.zeros_like(X)
    grads = jax.grad(lambda p, x: train(p, fresh(4)[1], x)[0].sum(), (0, 1))(PARAMS, zeros)
    chex.assert_tree_all_finite(grads)


def test_jit_is_no_jit_and_vmap_is_a_loop():
    active = jnp.array([[True, False, True, True], [True, True, False, True]])
    statistics = fresh(4)[1]
    inputs = jnp.stack([X, X * 2 - 1])
    mapped = jax.jit(jax.vmap(train, (None, None, 0, 0)))(PARAMS, statistics, inputs, active)
    for i in range(2):
        one = train(PARAMS, statistics, inputs[i], active[i])
        chex.assert_trees_all_close(jax.tree.map(lambda a, i=i: a[i], mapped), one, atol=2e-6)


def test_statistics_of_half_precision_are_kept_in_single():
    x = X.astype(jnp.bfloat16)
    y, new = train(PARAMS, fresh(4)[1], x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(new["mean"], 0.1 * x.astype(jnp.float32).mean((0, 1, 2)), rtol=1e-5)


def test_one_value_per_channel_cannot_train():
    message = r"more than one value per channel.*\(1, 1, 1, 4\)\. Use a larger batch"
    with pytest.raises(UserError, match=message):
        train(PARAMS, fresh(4)[1], X[:1, :1, :1])
