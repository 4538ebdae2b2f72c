"""Whole training runs against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax.training import optimizers
from bap_jax.training.settings import OptimizerSettings
from tests import golden_files
from tests.lagrangian.problems import LinearRun, reference_scheme, toy_2d

TOLERANCE = 2e-6


def runs(prefix):
    """Golden runs. Weight decay is left out: there the reference regularises the last layer alone
    and lets the regulariser leak into the constraint."""
    return [
        name.removeprefix(prefix)
        for name, settings in golden_files.SETTINGS.items()
        if name.startswith(prefix)
        and settings.get("optimizer")
        and not settings.get("weight_decay")
        and (prefix != "c/" or "cls" in settings)
    ]


def test_there_are_runs():
    assert runs("c/") and runs("c/toy2d/")


@pytest.mark.parametrize("name", runs("c/"))
def test_linear_model(name):
    run = LinearRun(name)
    trainer = run.trainer()
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
        if "buffer_memory" in run.settings:
            held = np.minimum(state.constraint.seen, run.settings["buffer_memory"])
            np.testing.assert_array_equal(held, run.golden["buffer_len"][t])


@pytest.mark.parametrize("name", runs("c/toy2d/"))
def test_toy_problem(name):
    golden, settings = (
        golden_files.case(f"c/toy2d/{name}"),
        golden_files.SETTINGS[f"c/toy2d/{name}"],
    )
    optimizer = optax.adam if settings["adam"] else optax.sgd
    options = {"momentum": settings["momentum"]} if settings["momentum"] else {}
    # `adam` is for both players, momentum for the primal one.
    scheme = reference_scheme(
        settings["optimizer"],
        optimizer(settings["primal_lr"], **options),
        optimizer(settings["dual_lr"]),
    )

    def body(carry, _):
        params, state = carry
        params, state, info = scheme.update(toy_2d(settings["surrogate"]), params, state)
        return (params, state), (params, state.multipliers, info.lagrangian)

    # Optax forms Adam's 1 − .999^t in the precision of the step, the reference in double.
    with jax.enable_x64(True):
        params = jnp.array(settings["init"])
        state = scheme.init(params, 2)
        _, found = jax.lax.scan(body, (params, state), length=settings["steps"])
    for key, value in zip(("params", "lambda", "lagrangian"), found, strict=True):
        np.testing.assert_allclose(value, golden[key], rtol=0, atol=TOLERANCE, err_msg=key)


def test_milestones_that_meet_multiply_and_rounding_loses_no_epoch():
    schedule = optimizers.step_schedule(OptimizerSettings(1.0), 3, 10)  # epochs 1, 2 and 2
    np.testing.assert_allclose([schedule(t) for t in (0, 10, 20)], [1, 0.1, 0.001], rtol=1e-5)
    late = optimizers.step_schedule(OptimizerSettings(1.0, milestones=(0.29,)), 100, 1)
    np.testing.assert_allclose([late(28), late(29)], [1, 0.1], rtol=1e-6)


@pytest.mark.parametrize(
    "epochs", [int(key[5:]) for key in golden_files.ARRAYS if key.startswith("d/lr/")]
)
def test_step_schedule(epochs):
    """FairFace's schedule has the last of the paper's milestones alone."""
    expected = golden_files.ARRAYS[f"d/lr/{epochs}"]
    milestones = (0.6, 0.8, 0.9) if expected[-1] < expected[0] / 100 else (0.9,)
    settings = OptimizerSettings(expected[0], milestones=milestones)
    schedule = optimizers.step_schedule(settings, epochs, 7)
    found = [float(schedule(epoch * 7)) for epoch in range(epochs)]
    assert len(expected) == epochs
    np.testing.assert_allclose(found, expected, rtol=1e-6)
