"""Whatever moves the weights: known optimisers are optax's, and removed weights stay 0."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from bap_jax.constraints import constraint_values
from bap_jax.errors import UserError
from bap_jax.lagrangian import SCHEMES
from bap_jax.training import OPTIMIZERS, DualSettings, OptimizerSettings, Settings, check_settings
from bap_jax.training.optimizer_checks import check_dual_optimizer, check_primal_optimizer
from bap_jax.training.optimizers import formulation_from_settings, primal_optimizer
from tests.training.optimizer_runs import (
    make_trainer,
    order_of,
    removed,
    run_settings,
    train,
)
from tests.training.tiny import tiny

WEIGHTS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.25, 0.0])}
GRADIENTS = [
    {"w": jnp.array([[0.3, -0.1], [2.0, 0.4]]) * t, "b": jnp.array([0.7, -0.2])} for t in (1, -2, 3)
]


def walk(optimizer, **extra):
    """The weights after three steps on fixed gradients."""
    weights, state = WEIGHTS, optimizer.init(WEIGHTS)
    for gradient in GRADIENTS:
        updates, state = optimizer.update(gradient, state, weights, **extra)
        weights = optax.apply_updates(weights, updates)
    return weights


RATE = 0.02
KNOWN = {
    "sgd": ({"momentum": 0.8}, optax.sgd(RATE, 0.8)),
    "sgd nesterov": ({"nesterov": True}, optax.sgd(RATE, 0.9, nesterov=True)),
    "sgd with decay": (
        {"weight_decay": 0.1},
        optax.chain(optax.add_decayed_weights(0.1), optax.sgd(RATE, 0.9)),
    ),
    "adam": ({}, optax.adam(RATE)),
    "adam with decay": (
        {"weight_decay": 0.1},
        optax.chain(optax.add_decayed_weights(0.1), optax.adam(RATE)),
    ),
    "adamw": ({"weight_decay": 0.1}, optax.adamw(RATE, weight_decay=0.1)),
    "adamw slow": ({"beta1": 0.5, "beta2": 0.9}, optax.adamw(RATE, 0.5, 0.9, weight_decay=0)),
    "lion": ({"weight_decay": 0.1}, optax.lion(RATE, weight_decay=0.1)),
    "lamb": ({"weight_decay": 0.1}, optax.lamb(RATE, weight_decay=0.1)),
    "adam clipped": (
        {"clip_norm": 0.5},
        optax.chain(optax.clip_by_global_norm(0.5), optax.adam(RATE)),
    ),
}


@pytest.mark.parametrize("case", KNOWN)
def test_a_known_optimizer_is_that_of_optax(case):
    options, expected = KNOWN[case]
    settings = OptimizerSettings(RATE, name=case.split()[0], schedule="constant", **options)
    check_settings(Settings(optimizer=settings))
    found = walk(primal_optimizer(settings, 3, 1))
    chex.assert_trees_all_equal(found, walk(expected))
    assert {case.split()[0] for case in KNOWN} == set(OPTIMIZERS)


def test_the_default_is_the_papers_sgd():
    schedule = optax.piecewise_constant_schedule(0.01, {1: 0.1, 2: 0.1 * 0.1})
    expected = optax.sgd(schedule, momentum=0.9)
    chex.assert_trees_all_equal(walk(primal_optimizer(OptimizerSettings(), 3, 1)), walk(expected))


def with_value(updates, state, params=None, *, value):
    """An update that asks for the objective and for nothing else."""
    return jax.tree.map(lambda u: -0.05 * value * u, updates), state


def noise(updates, state, params=None):
    """Adds random numbers; its state is a key."""
    keys = jax.random.split(state, 3)
    first = 0.01 * jax.random.normal(keys[1], updates["first"].shape)
    return updates | {"first": updates["first"] + first}, keys[0]


ANY = {
    "adamw": optax.adamw(0.02, weight_decay=0.1),
    "schedule counted in steps": optax.sgd(optax.cosine_decay_schedule(0.1, 6)),
    "injected": optax.inject_hyperparams(optax.adamw)(learning_rate=0.02, weight_decay=0.1),
    "masked": optax.chain(
        optax.masked(optax.add_decayed_weights(0.1), {"first": True, "last": False}),
        optax.adam(0.02),
    ),
    "several": optax.multi_transform(
        {"fast": optax.adam(0.1), "slow": optax.sgd(0.01, 0.9)}, {"first": "fast", "last": "slow"}
    ),
    "factored": optax.adafactor(0.02, min_dim_size_to_factor=2),
    "accumulated": optax.MultiSteps(optax.adam(0.02), 2),
    "value": optax.polyak_sgd(0.1),
    "only value": optax.GradientTransformationExtraArgs(lambda params: (), with_value),
    "plateau": optax.chain(optax.adam(0.02), optax.contrib.reduce_on_plateau(accumulation_size=2)),
    "line search": optax.lbfgs(
        memory_size=2, linesearch=optax.scale_by_backtracking_linesearch(max_backtracking_steps=2)
    ),
    "orthogonal": optax.contrib.muon(0.02),
    "lamb": optax.lamb(0.02, weight_decay=0.1),
    "schedule-free": optax.contrib.schedule_free_adamw(0.02),
    "not finite": optax.apply_if_finite(optax.adam(0.02), 3),
    "a random key": optax.chain(
        optax.sgd(0.05), optax.GradientTransformation(lambda params: jax.random.key(0), noise)
    ),
}


# What is elementwise, or like another one, runs with the slow tests.
LIKE_OTHERS = ("adamw", "schedule counted in steps", "masked", "value", "only value", "orthogonal")
LIKE_OTHERS += ("lamb", "not finite")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * (c in LIKE_OTHERS)) for c in ANY]
)
def test_any_transformation_keeps_removed_weights_at_zero(case):
    settings = run_settings(name=ANY[case])
    check_settings(settings)
    check_primal_optimizer(settings.optimizer, tiny().variables.params)
    states = train(settings)
    for state, count in zip(states, (0, 16, 18), strict=True):
        np.testing.assert_array_equal(removed(state), np.zeros(count))
    start, last = tiny().variables.params, states[-1]
    for name in ("first", "last"):
        assert np.isfinite(last.params[name]).all()
        moved = np.where(last.masks[name], last.params[name] - start[name], 0)
        assert np.abs(moved).max() > 1e-3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_takes_any_transformation(scheme):
    """Also those that ask for the objective: `grad` is the gradient of `value_fn` at the weights,
    and `value` its value."""
    seen = {}

    def update(updates, state, params=None, *, value, grad, value_fn):
        again, slope = jax.value_and_grad(value_fn)(params)
        seen.update(value=value, grad=grad, again=again, slope=slope)
        return jax.tree.map(lambda leaf: leaf * jnp.tanh(value), updates), state

    spy = optax.GradientTransformationExtraArgs(lambda params: (), update)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), ANY["several"], ANY["injected"], spy)
    settings = run_settings("ceag", scheme, DualSettings("ascent", 0.0, start=9.0), name=optimizer)
    trainer = make_trainer(settings)
    first = trainer.init(tiny().variables, jax.random.key(0))

    @jax.jit
    def step(state):
        new, _ = trainer.step(state, tiny().train, order_of(0)[0], 2)
        return new, dict(seen)

    state, found = step(first)
    if scheme != "extragradient":  # whose gradient is taken at the point ahead
        np.testing.assert_allclose(found["again"], found["value"], rtol=1e-6)
        chex.assert_trees_all_close(found["slope"], found["grad"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(removed(state), np.zeros(18))
    assert (
        np.abs(state.params["last"] - first.params["last"])[state.masks["last"] == 1].max() > 1e-4
    )


REGROWN = {
    "adamw": optax.adamw(0.02),
    "injected": ANY["injected"],
    "several": optax.multi_transform(
        {"a": optax.adam(0.1), "b": optax.sgd(0.01, 0.9)}, {"first": "a", "last": "b"}
    ),
    "partly factored": optax.adafactor(0.02, min_dim_size_to_factor=4, momentum=0.9),
    "memory": optax.lbfgs(memory_size=2, linesearch=None, learning_rate=0.02),
}


@pytest.mark.parametrize(
    ("case", "scheme"), [*((case, "dual_primal") for case in REGROWN), ("adamw", "optimistic")]
)
def test_moments_of_weights_that_come_back_start_anew(case, scheme):
    """Entries of the state that belong to such a weight are as `init` makes them, others stay."""
    pruning = dataclasses.replace(run_settings().pruning, algorithm="set", schedule="periodic")
    trainer = make_trainer(run_settings(scheme=scheme, pruning=pruning, name=REGROWN[case]))
    state = trainer.init(tiny().variables, jax.random.key(0))
    old = jax.tree.map(lambda leaf: leaf + jnp.ones_like(leaf), state.lagrangian.primal_state)
    state = state._replace(epoch=0, lagrangian=state.lagrangian._replace(primal_state=old))
    begun = jax.jit(trainer.begin_epoch)(state, tiny().train, order_of(1)[0], 1)
    fresh = trainer.scheme.init(state.params, 0).primal_state
    back = {
        name: (np.asarray(state.masks[name]) == 0) & (np.asarray(begun.masks[name]) == 1)
        for name in state.masks
    }
    assert all(flags.any() for flags in back.values())
    restarted = set()
    leaves = jax.tree.leaves(old), jax.tree.leaves(fresh)
    found = jax.tree_util.tree_leaves_with_path(begun.lagrangian.primal_state)
    for (path, new), before, start in zip(found, *leaves, strict=True):
        name = next((name for name in back if f"'{name}'" in jax.tree_util.keystr(path)), None)
        if name is None or new.shape[-2:] != back[name].shape:
            np.testing.assert_array_equal(new, before)
            continue
        flags = np.broadcast_to(back[name], new.shape)
        np.testing.assert_array_equal(new, np.where(flags, start, before))
        restarted.add(name)
    assert restarted == {"first", "last"}


@pytest.mark.parametrize("name", [*OPTIMIZERS, "optax:adafactor"])
def test_swept_learning_rates_at_once_are_those_one_by_one(name):
    settings = run_settings(name=name, schedule="cosine", warmup=0.25, clip_norm=1.0)

    def final_params(rate):
        optimizer = dataclasses.replace(settings.optimizer, learning_rate=rate)
        trainer = make_trainer(dataclasses.replace(settings, optimizer=optimizer))
        state = trainer.init(tiny().variables, jax.random.key(0))
        state, _ = trainer.run_steps(state, tiny().train, order_of(1), 1)
        return state.params

    rates = jnp.array([0.1, 0.003])
    together, alone = jax.jit(jax.vmap(final_params))(rates), jax.jit(final_params)
    each = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(alone, rates))
    chex.assert_trees_all_close(together, each, atol=1e-5)
    assert np.abs(each["first"][0] - each["first"][1]).max() > 1e-3


def two_ascents(settings):
    """λ after two observed violations of two constraints."""
    formulation = formulation_from_settings(Settings(dual=settings))
    dual = formulation.init(2)
    for violation in ([0.2, -0.1], [0.4, 0.3]):
        dual = formulation.update_multipliers(constraint_values(jnp.array(violation)), dual)
    return dual.multipliers


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("adam", optax.adam(0.5)),
        (optax.adam(0.5), optax.adam(0.5)),
        ("optax:rmsprop", optax.rmsprop(0.5)),
        (lambda rate: optax.lion(rate, weight_decay=0.0), optax.lion(0.5, weight_decay=0.0)),
    ],
)
def test_any_optimizer_moves_the_multipliers(optimizer, expected):
    own = (
        {}
        if not isinstance(optimizer, str) and hasattr(optimizer, "init")
        else {"learning_rate": 0.5}
    )
    settings = DualSettings("ascent", **own, optimizer=optimizer)
    check_settings(Settings(dual=settings))
    check_dual_optimizer(settings)
    multipliers, state = jnp.zeros(2), expected.init(jnp.zeros(2))
    for violation in ([0.2, -0.1], [0.4, 0.3]):
        updates, state = expected.update(-jnp.array(violation), state, multipliers)
        multipliers = jnp.maximum(multipliers + updates, 0)
    np.testing.assert_allclose(two_ascents(settings), multipliers, rtol=1e-6)
    assert multipliers.min() > 0.01


def named(**options):
    return Settings(optimizer=OptimizerSettings(**options))


def bad_schedule(step):
    return step


MISTAKES = {
    "unknown": (
        named(name="adm"),
        "unknown optimizer 'adm'; known: sgd, adam, .*'optax:adafactor'",
    ),
    "not a function": (named(name=3), r"name, an optax transformation .* got 3\."),
    "a class": (named(name=optax.MultiSteps), "an optimizer is a name, .* got <class"),
    "of Flax": (
        named(
            name=nnx.Optimizer(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), optax.adam(0.1), wrt=nnx.Param)
        ),
        "an optimizer is a name, .*; pass its optax transformation, its `tx`",
    ),
    "three arguments": (named(name=lambda a, b, c: 0), "an optimizer is a name, .* got <function"),
    "no module": (named(name="no_such:f"), "optimizer 'no_such:f': No module named"),
    "ignored": (
        named(name=optax.sgd(0.1), warmup=0.1),
        "brings its own .*optimizer.warmup=0.1 would",
    ),
    "unknown schedule": (
        named(schedule="cos"),
        "unknown schedule 'cos'; known: step, constant, cosi",
    ),
    "a schedule itself": (
        named(schedule=bad_schedule),
        r"\(settings, steps\) -> schedule.* got <func",
    ),
    "warmup": (named(warmup=5), r"optimizer.warmup must lie in \[0, 1\), a fraction .* got 5"),
    "clip_norm": (named(clip_norm=0.0), "optimizer.clip_norm must be a number > 0; got 0.0"),
    "beta": (named(beta1=1.0), r"optimizer.beta1 must lie in \[0, 1\); got 1.0"),
    "dual rule": (
        Settings(dual=DualSettings(rule="nu_pi", optimizer="adam")),
        "dual.optimizer is of dual.rule='ascent'; 'nu_pi' moves",
    ),
    "dual rule by default": (
        Settings(dual=DualSettings(optimizer="adam")),
        "of dual.rule='ascent'; 'auto' moves .* Leave it out, or write dual.rule='ascent' too",
    ),
    "dual ignored": (
        Settings(dual=DualSettings("ascent", 0.3, optimizer=optax.sgd(0.1))),
        "so dual.learning_rate=0.3 would have no effect",
    ),
    "dual unknown": (Settings(dual=DualSettings(optimizer="adm")), "unknown optimizer 'adm'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_in_settings(case):
    settings, text = MISTAKES[case]
    with pytest.raises(UserError, match=text):
        check_settings(settings)


def of_lookahead(learning_rate):
    return optax.lookahead(optax.sgd(learning_rate), 2, 0.5)


def grows(updates, state, params=None):
    return updates, jnp.zeros(2)


UNFIT = {
    "fails": (of_lookahead, "optimizer.name 'of_lookahead' cannot move these weights: .*'fast'"),
    "labels": (
        optax.multi_transform({"a": optax.sgd(0.1)}, {"body": "a"}),
        "cannot move these weights: ValueError: .* a nested dict with the paths first, last",
    ),
    "returns nothing": (
        lambda rate, settings: None,
        "must return an optax transformation; got NoneT",
    ),
    "structure": (
        optax.GradientTransformation(lambda params: (), lambda u, state, params=None: ({}, state)),
        "the updates must have the structure of the weights",
    ),
    "state": (
        optax.GradientTransformation(lambda params: jnp.zeros(()), grows),
        r"the state after a step must be like the state .*; at the top they are float32\[2\]",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_optimizers_that_cannot_move_the_weights(case):
    optimizer, text = UNFIT[case]
    settings = OptimizerSettings(name=optimizer)
    check_settings(Settings(optimizer=settings))
    with pytest.raises(UserError, match=text):
        check_primal_optimizer(settings, tiny().variables.params)


def test_an_optimizer_that_cannot_move_the_multipliers():
    with pytest.raises(UserError, match="dual.optimizer 'custom' cannot move .*'value'"):
        check_dual_optimizer(DualSettings("ascent", optimizer=optax.polyak_sgd()))
