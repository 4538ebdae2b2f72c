"""What a state is made of keeps its types from step to step, so a plain loop compiles once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian, training
from bap_jax.constraints import Constraint, constraint_values
from bap_jax.lagrangian import SCHEMES, Evaluation, build_scheme
from bap_jax.training import METHODS, DualSettings, PruningSettings
from tests.training.optimizer_runs import make_trainer, order_of, run_settings
from tests.training.tiny import tiny

OPTIMIZERS = {
    "momentum": optax.sgd(0.1, momentum=0.9),
    "adam": optax.adam(optax.cosine_decay_schedule(0.1, 10)),
    "optimistic": optax.optimistic_gradient_descent(0.1),
    "injected": optax.inject_hyperparams(optax.adamw)(0.1),
    "schedule-free": optax.contrib.schedule_free_sgd(0.1),
    "numbers": optax.GradientTransformation(
        lambda params: 1.0, lambda updates, state, params=None: (updates, state * 0.5)
    ),
}
FORMULATIONS = {
    "auto": lagrangian.auto(),
    "ascent": lagrangian.gradient_ascent(optax.sgd(0.1), start=1.0, restart=True),
    "adam": lagrangian.gradient_ascent(optax.adam(0.1), start=jnp.full(2, 1.0), bound=5),
    "optimistic": lagrangian.gradient_ascent(optax.optimistic_gradient_descent(0.1)),
    "nu_pi": lagrangian.gradient_ascent(lagrangian.nu_pi(0.1, 0.5)),
    "augmented": lagrangian.augmented(1),
    "penalty": lagrangian.quadratic_penalty(1),
    "simplex": lagrangian.exponentiated_gradient(0.1),
    "own": lagrangian.Formulation(
        lambda size: lagrangian.DualState(jnp.full(size, 0.5), 0.0),
        lambda values, dual: lagrangian.DualState(dual.multipliers + values.violation, dual.memory),
        lambda values, dual: jnp.sum(dual.multipliers * values.proxy),
    ),
}
CASES = [("ascent", name) for name in OPTIMIZERS] + [(name, "momentum") for name in FORMULATIONS]


def problem(params):
    return Evaluation(jnp.sum(params["w"] ** 2), constraint_values(0.3 - params["w"]))


def kinds(tree):
    """Shape, type and whether it is weak, of every leaf."""
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("formulation", "optimizer"), CASES)
def test_a_scheme_keeps_the_types_of_its_state(scheme, formulation, optimizer):
    made = build_scheme(scheme, OPTIMIZERS[optimizer], FORMULATIONS[formulation])
    for params in ({"w": jnp.array([0.5, 0.1])}, {"w": jnp.full(2, 0.5)}):  # the second ones weak
        state = made.init(params, 2)
        shapes = jax.eval_shape(lambda state: state, state)
        assert not any(weak for *_, weak in jax.tree.leaves(kinds(shapes), is_leaf=_is_kind))
        moved, after, _ = jax.eval_shape(functools.partial(made.update, problem), params, state)
        assert kinds(after) == kinds(shapes)
        assert not moved["w"].weak_type


def _is_kind(node):
    return isinstance(node, tuple) and len(node) == 3 and isinstance(node[2], bool)


PRUNING = PruningSettings(0.5, epochs=2, prunable="kernels")


def trainers():
    """One for each method, scheme, rule of the multipliers, and some algorithms."""
    yield from ((f"method {name}", run_settings(name)) for name in METHODS)
    yield from ((f"scheme {name}", run_settings("ceag", name)) for name in SCHEMES)
    for rule in ("auto", "ascent", "nu_pi", "augmented"):
        yield f"rule {rule}", run_settings("ceag", dual=DualSettings(rule=rule))
    for name in ("el", "pairwise", "floor", "distillation"):
        yield f"rule auto, method {name}", run_settings(name, dual=DualSettings())
    for name in SCHEMES:
        yield f"rule auto, scheme {name}", run_settings("ceag", name, DualSettings())
    for name in ("global_magnitude", "set", "rigl", "random", "magnitude_ste", "no_prune"):
        share = 0.0 if name == "no_prune" else 0.5
        changed = dataclasses.replace(PRUNING, algorithm=name, sparsity=share)
        yield f"pruning {name}", run_settings(pruning=changed)


TRAINERS = dict(trainers())


@pytest.mark.parametrize("case", TRAINERS)
def test_a_trainer_keeps_the_types_of_its_state(case):
    trainer, problem = make_trainer(TRAINERS[case]), tiny()
    state = jax.eval_shape(trainer.init, problem.variables, jax.random.key(0))
    step = functools.partial(trainer.step, data=problem.train, indices=order_of(0)[0], epoch=0)
    after, _ = jax.eval_shape(step, state)
    assert kinds(after) == kinds(state)
    assert not any(weak for *_, weak in jax.tree.leaves(kinds(state), is_leaf=_is_kind))


def counting():
    """A constraint of one's own whose state is a Python number at first."""

    def evaluate(count, observations):
        return constraint_values(observations.loss.mean() - 1), count + observations.weight.sum()

    return Constraint(1, lambda: 0.0, evaluate)


def test_a_plain_loop_compiles_once():
    tiny_problem, traced = tiny(), []
    scheme = lagrangian.dual_primal(optax.adam(0.01), lagrangian.gradient_ascent(optax.sgd(0.1)))
    trainer = training.make_trainer(tiny_problem.model, scheme, counting(), training.no_pruning())
    weights = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5), tiny_problem.variables.params)
    assert weights["first"].weak_type

    @jax.jit
    def step(state, indices, epoch):
        traced.append(None)
        return trainer.step(state, tiny_problem.train, indices, epoch)[0]

    state = trainer.init(tiny_problem.variables._replace(params=weights), jax.random.key(0))
    for epoch in range(2):
        for indices in order_of(epoch):
            state = step(state, indices, epoch)
    assert len(traced) == step._cache_size() == 1
    np.testing.assert_allclose(state.constraint, 4 * 15)


@pytest.mark.parametrize("case", TRAINERS)
def test_strict_promotion_stops_no_step(case):
    with jax.numpy_dtype_promotion("strict"):
        trainer, data = make_trainer(TRAINERS[case]), tiny().train
        state = trainer.init(tiny().variables, jax.random.key(0))
        jax.eval_shape(lambda state: trainer.step(state, data, order_of(0)[0], 0), state)
