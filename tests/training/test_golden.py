"""Whole training runs against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax.training import schedules
from bap_jax.training.settings import OptimizerSettings
from tests import golden_files
from tests.training.golden_runs import LinearRun, NaiveRun, ToyRun

TOLERANCE = 2e-6


def linear_runs(naive):
    """Golden runs with constraints, or without. Weight decay is left out: there the reference
    regularises the last layer alone and lets the regulariser leak into the constraint."""

    found = []
    for name in golden_files.cases("c/", "W"):
        is_naive = f"c/{name}/lambda" not in golden_files.ARRAYS
        decays = golden_files.settings(f"c/{name}").take("weight_decay", 0)
        # A run without constraints has no settings; only its name says that there is decay.
        decays = decays or (is_naive and name.endswith("_wd"))
        if is_naive == naive and not decays:
            found.append(name)
    return found


@pytest.mark.parametrize("name", linear_runs(naive=False))
def test_linear_model(name):
    run = LinearRun(name)
    trainer = run.trainer
    state, step = trainer.init(run.variables(), jax.random.key(0)), jax.jit(trainer.step)
    for t, (batch, epoch) in enumerate(run.batches()):
        indices = jnp.arange(batch.size)
        state, metrics = step(state, batch, indices, epoch)
        found = {
            "W": state.params["W"],
            "b": state.params["b"],
            "lambda": metrics.multipliers,
            "strict": metrics.violation,
            "surrogate": metrics.proxy,
            "lagrangian": metrics.lagrangian,
            "loss": metrics.loss,
            "ce_loss": metrics.loss,
        }
        for key, value in found.items():
            expected = run.golden[key][t]
            np.testing.assert_allclose(
                value, expected, rtol=0, atol=TOLERANCE, err_msg=f"{key} {t}"
            )
        dual = run.golden["dual_lagrangian_after_dual_step"][t]
        if not np.isnan(dual):
            product = np.nansum(metrics.violation * state.lagrangian.memory)
            np.testing.assert_allclose(product, dual, rtol=0, atol=TOLERANCE)
        if run.buffer_size:
            held = np.minimum(state.constraint.seen, run.buffer_size)
            np.testing.assert_array_equal(held, run.golden["buffer_len"][t])


@pytest.mark.parametrize("name", linear_runs(naive=True))
def test_linear_model_without_constraints(name):
    run = NaiveRun(name)
    state, step = run.trainer.init(run.variables(), jax.random.key(0)), jax.jit(run.trainer.step)
    for t, batch in enumerate(run.batches()):
        state, metrics = step(state, batch, jnp.arange(batch.size), 0)
        for key, value in (("W", state.params["W"]), ("loss", metrics.loss)):
            expected = run.golden[key][t]
            np.testing.assert_allclose(value, expected, rtol=0, atol=TOLERANCE, err_msg=key)


@pytest.mark.parametrize("name", golden_files.cases("c/", "params"))
def test_toy_problem(name):
    golden = golden_files.case(f"c/{name}")
    run = ToyRun(name)

    def body(carry, _):
        params, state = carry
        params, state, info = run.scheme.update(run.problem, params, state)
        return (params, state), (params, state.multipliers, info.lagrangian)

    # Optax forms Adam's 1 − .999^t in the precision of the step, the reference in double.
    with jax.enable_x64(True):
        params = jnp.array(run.start)
        state = run.scheme.init(params, 2)
        _, found = jax.lax.scan(body, (params, state), length=run.steps)
    for key, value in zip(("params", "lambda", "lagrangian"), found, strict=True):
        np.testing.assert_allclose(value, golden[key], rtol=0, atol=TOLERANCE, err_msg=key)


def test_milestones_that_meet_multiply_and_rounding_loses_no_epoch():
    schedule = schedules.step_schedule(OptimizerSettings(1.0), 3, 10)  # epochs 1, 2 and 2
    np.testing.assert_allclose([schedule(t) for t in (0, 10, 20)], [1, 0.1, 0.001], rtol=1e-5)
    late = schedules.step_schedule(OptimizerSettings(1.0, milestones=(0.29,)), 100, 1)
    np.testing.assert_allclose([late(28), late(29)], [1, 0.1], rtol=1e-6)


@pytest.mark.parametrize("name", [key for key in golden_files.ARRAYS if key.startswith("d/lr/")])
def test_step_schedule(name):
    """FairFace's schedule has the last of the paper's milestones alone."""
    expected = golden_files.ARRAYS[name]
    milestones = (0.6, 0.8, 0.9) if expected[-1] < expected[0] / 100 else (0.9,)
    settings = OptimizerSettings(expected[0], milestones=milestones)
    schedule = schedules.step_schedule(settings, len(expected), 7)
    found = [float(schedule(epoch * 7)) for epoch in range(len(expected))]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
