"""Schemes that users add from outside."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bap_jax
from bap_jax import lagrangian, pipeline, training
from bap_jax.errors import UserError
from bap_jax.lagrangian import SCHEMES, LagrangianState, Scheme
from bap_jax.lagrangian.steps import primal_dual_steps
from bap_jax.training import Settings, check_settings
from tests.training.tiny import settings_of, tiny, trainer_of


def multipliers_last(primal_optimizer, formulation, *, weight_limit=float("inf")):
    """A copy of `simultaneous`."""
    steps = primal_dual_steps(primal_optimizer, formulation, weight_limit)

    def update(problem, params, state, *inputs):
        step = steps.gradient(problem, params, lambda evaluation: state.dual, inputs)
        params, primal_state = steps.descend(step.primal, params, state.primal_state)
        dual = steps.update_multipliers(step.evaluation, state.dual)
        return params, LagrangianState(dual, primal_state), step.info

    return Scheme(steps.init, update)


def objective_only(primal_optimizer, formulation, *, weight_limit, overall_term):
    """No multipliers."""
    del formulation, weight_limit
    return lagrangian.switching(primal_optimizer, overall_term=overall_term)


@pytest.fixture
def registry():
    """The schemes; what a test registers is forgotten after it."""
    before = dict(SCHEMES)
    yield SCHEMES
    SCHEMES.clear()
    SCHEMES.update(before)


def two_steps(scheme):
    """Parameters and multipliers after two steps of CEAG."""
    trainer = trainer_of(tiny(), settings_of("ceag", scheme))
    state, step = trainer.init(tiny().variables, jax.random.key(0)), jax.jit(trainer.step)
    for indices in jnp.arange(30).reshape(2, 15):
        state, _ = step(state, tiny().train, indices, 0)
    return state.params, state.lagrangian.multipliers


@pytest.mark.parametrize(
    ("make", "has_multipliers", "built_in"),
    [(multipliers_last, True, "simultaneous"), (objective_only, False, "switching")],
)
def test_a_copy_of_a_scheme_is_that_scheme(make, has_multipliers, built_in, registry):
    bap_jax.register_scheme("mine", make, has_multipliers=has_multipliers)
    check_settings(Settings(scheme="mine"))
    jax.tree.map(np.testing.assert_array_equal, two_steps("mine"), two_steps(built_in))


def test_a_scheme_without_multipliers_sees_the_overall_term(registry):
    seen = []

    def make(primal_optimizer, formulation, *, weight_limit, overall_term):
        seen.append(overall_term)
        return objective_only(
            primal_optimizer, formulation, weight_limit=weight_limit, overall_term=overall_term
        )

    lagrangian.register_scheme("mine", make, has_multipliers=False)
    settings = dataclasses.replace(settings_of("ceag", overall_term="clipped"), scheme="mine")
    method = training.methods.build_method(tiny().reference, settings)
    pipeline.trainer_from_settings(tiny().model, method, training.no_pruning(), settings, 2)
    assert seen == ["clipped"]
    with pytest.raises(UserError, match="scheme 'mine' has no multipliers .* not suit method 'el'"):
        check_settings(Settings("el", "mine"))


@pytest.mark.parametrize(
    ("name", "make", "text"),
    [
        ("dual_primal", multipliers_last, "scheme 'dual_primal' exists already; .*Known: simult"),
        ("a:b", multipliers_last, "the name of a scheme consists of letters, .*; got 'a:b'"),
        ("mine", "simultaneous", "scheme 'mine' must be a function; got 'simultaneous'"),
    ],
)
def test_mistakes_when_registering(name, make, text, registry):
    before = list(registry)
    with pytest.raises(UserError, match=text):
        lagrangian.register_scheme(name, make)
    assert list(registry) == before


def test_a_name_may_get_a_new_meaning(registry):
    lagrangian.register_scheme("dual_primal", multipliers_last, replace=True)
    assert registry["dual_primal"].make is multipliers_last


def test_unknown_schemes_say_how_to_add_one():
    with pytest.raises(UserError, match=r"unknown scheme 'mine'.*register_scheme\(name, make\)"):
        lagrangian.build_scheme("mine", optax.sgd(0.1), optax.sgd(0.1))
