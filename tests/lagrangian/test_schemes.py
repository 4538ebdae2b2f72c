"""Tests that every scheme must pass, with all formulations at once as named sets of constraints."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values
from bap_jax.lagrangian import SCHEMES
from bap_jax.types import Array

GROUPS, FEATURES, BATCH, STEPS = 3, 4, 64, 12
FORMULATIONS = {
    "nu_pi": lagrangian.gradient_ascent(lagrangian.nu_pi(0.1, 0.5), overall_term="clipped"),
    "restart": lagrangian.gradient_ascent(
        optax.adam(0.05), bound=2.0, restart=True, restart_confidence=0.1
    ),
    "augmented": lagrangian.augmented(0.1, overall_term="detached"),
    "penalty": lagrangian.quadratic_penalty(0.5),
    "exponentiated": lagrangian.exponentiated_gradient(0.5),
}
SIZES = dict.fromkeys(FORMULATIONS, GROUPS)


class Batch(NamedTuple):
    """Samples of one step.

    Attributes:
      inputs: `(batch, feature)`.
      targets: `(batch,)`.
      groups: `(batch,)` ids.
    """

    inputs: Array
    targets: Array
    groups: Array


def make_batches(seed=0):
    """Twelve batches, on the leading axis; every third lacks the last group."""
    rng = np.random.default_rng(seed)
    groups = rng.choice(GROUPS, size=(STEPS, BATCH), p=[0.6, 0.3, 0.1])
    groups[::3][groups[::3] == GROUPS - 1] = 0
    inputs = rng.normal(size=(STEPS, BATCH, FEATURES)).astype(np.float32)
    targets = inputs.sum(-1) * (1 - groups) + rng.normal(size=groups.shape)
    return Batch(inputs, targets.astype(np.float32), groups.astype(np.int32))


def problem(params, batch):
    """Regression in which no group may have more than the mean loss; NaN for absent groups."""
    errors = (batch.inputs @ params["w"] + params["b"] - batch.targets) ** 2
    member = jax.nn.one_hot(batch.groups, GROUPS, axis=0, dtype=errors.dtype)
    count = member.sum(-1)
    loss, seen = errors.mean(), count > 0
    means = member @ errors / jnp.maximum(count, 1)
    excess = jnp.where(seen, means - loss, jnp.nan)
    values = constraint_values(
        jnp.where(excess > 0.5, excess, -0.5) + 0 * excess,
        0.1 * excess,
        violation_mask=seen,
        proxy_mask=seen,
        overall=0.1 * loss,
        deviation=1 / jnp.sqrt(count),
    )
    return lagrangian.Evaluation(loss, dict.fromkeys(FORMULATIONS, values))


def first_params(scale=1.0, dtype=jnp.float32):
    weights = scale * jnp.array([0.5, -0.3, 0.2, 0.1])
    return {"w": weights.astype(dtype), "b": jnp.zeros((), dtype)}


def play(update, params, state, batches, steps=STEPS, place=lambda batch: batch):
    for i in range(steps):
        params, state, _ = update(params, state, place(at(batches, i)))
    return params, state


def at(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


class Run(NamedTuple):
    """A scheme, its update with and without jit, and how often the latter was traced so far."""

    scheme: lagrangian.Scheme
    plain: object
    jitted: object
    traced: list

    def start(self, **options):
        params = first_params(**options)
        return params, self.scheme.init(params, SIZES)


@functools.cache
def run(name):
    """Kept between tests, so that it compiles once."""
    scheme = lagrangian.build_scheme(name, optax.adam(0.01), FORMULATIONS, weight_limit=8.0)
    traced = []

    def plain(params, state, batch):
        return scheme.update(problem, params, state, batch)

    def counted(*arguments):
        traced.append(None)
        return plain(*arguments)

    return Run(scheme, plain, jax.jit(counted), traced)


def close(one, other, atol=1e-5):
    chex.assert_trees_all_close(one, other, atol=atol, rtol=1e-5)


@pytest.mark.parametrize("name", SCHEMES)
def test_jit_is_no_jit_and_is_traced_once(name):
    scheme = run(name)
    params, state = play(scheme.plain, *scheme.start(), make_batches(), 2)
    scheme.traced.clear()
    close((params, state), play(scheme.jitted, *scheme.start(), make_batches(), 2))
    assert len(scheme.traced) <= 1
    moved = jax.tree.map(
        lambda a, b: float(abs(a - b).max()), state.multipliers, scheme.start()[1].multipliers
    )
    assert name == "switching" or min(moved.values()) > 0


@pytest.mark.parametrize("name", SCHEMES)
def test_vmapped_scans_of_eight_problems_equal_loops_and_stay_finite(name):
    scheme, update, *_ = run(name)

    @jax.jit
    @jax.vmap
    def scanned(scale, batches):
        params = first_params(scale)

        def body(carry, batch):
            return update(*carry, batch)[:2], None

        return jax.lax.scan(body, (params, scheme.init(params, SIZES)), batches)[0]

    scales = jnp.linspace(0.5, 2.0, 8)
    batches = jax.tree.map(lambda *leaves: np.stack(leaves), *map(make_batches, range(8)))
    found = scanned(scales, batches)
    chex.assert_tree_all_finite(found)
    for i in range(8):
        expected = play(run(name).jitted, *run(name).start(scale=scales[i]), make_batches(i))
        close(at(found, i), expected, 1e-4)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_long_scan_evaluates_the_problem_as_often_as_a_short_one(name):
    """Once for each evaluation in a step, whatever the number of steps."""
    batch = at(make_batches(), 0)

    def calls(length):
        counted = []

        def counting(params, batch):
            counted.append(None)
            return problem(params, batch)

        def body(carry, _):
            return run(name).scheme.update(counting, *carry, batch)[:2], None

        jax.eval_shape(lambda c: jax.lax.scan(body, c, length=length), run(name).start())
        return len(counted)

    per_step = 2 if name in ("primal_dual", "extragradient") else 1
    assert calls(100) == calls(2) == per_step


@pytest.mark.parametrize("name", FORMULATIONS)
def test_a_step_of_the_multipliers_keeps_every_type(name):
    """Weak types too; otherwise a Python loop would compile twice."""
    formulation = FORMULATIONS[name]
    dual = formulation.init(2)
    after = jax.eval_shape(formulation.update_multipliers, constraint_values(jnp.ones(2)), dual)
    for one, other in zip(jax.tree.leaves(dual), jax.tree.leaves(after), strict=True):
        assert (one.shape, one.dtype, one.weak_type) == (other.shape, other.dtype, other.weak_type)


@pytest.mark.parametrize("name", SCHEMES)
def test_eight_devices_are_one_device(name):
    assert len(jax.devices()) == 8
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    sharded = functools.partial(jax.device_put, device=spread)
    assert len(sharded(at(make_batches(), 0)).inputs.sharding.device_set) == 8
    one = play(run(name).jitted, *run(name).start(), make_batches())
    replicated = jax.device_put(run(name).start(), everywhere)
    eight = play(run(name).jitted, *replicated, make_batches(), place=sharded)
    close(one, jax.device_get(eight), 1e-4)


def typed_batches(dtype):
    batches = make_batches()
    return batches._replace(
        inputs=batches.inputs.astype(dtype), targets=batches.targets.astype(dtype)
    )


def dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


@pytest.mark.parametrize("name", SCHEMES)
def test_types_are_kept(name):
    """Multipliers are float32 even if the parameters are bfloat16."""
    batch = at(typed_batches(jnp.bfloat16), 0)
    carry = run(name).start(dtype=jnp.bfloat16)
    for _ in range(2):
        carry = jax.eval_shape(run(name).plain, *carry, batch)[:2]
        assert (dtypes(carry[0]), dtypes(carry[1].multipliers)) == ({"bfloat16"}, {"float32"})
    with jax.enable_x64(True):
        batch = at(typed_batches(jnp.float64), 0)
        params, state, _ = jax.eval_shape(
            run(name).plain, *run(name).start(dtype=jnp.float64), batch
        )
        assert dtypes((params, state.multipliers)) == {"float64"}


def test_bfloat16_follows_float32():
    scheme = run("dual_primal")
    carry = scheme.start(dtype=jnp.bfloat16)
    params, state = play(scheme.jitted, *carry, typed_batches(jnp.bfloat16))
    chex.assert_tree_all_finite((params, state))
    single, _ = play(scheme.jitted, *scheme.start(), make_batches())
    np.testing.assert_allclose(params["w"].astype(jnp.float32), single["w"], atol=0.02)
