"""The Lagrangian, its gradient, and the movement of multipliers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from bap_jax import lagrangian
from bap_jax.lagrangian import OVERALL_TERMS
from bap_jax.types import UserError
from tests.lagrangian.problems import toy_2d, values

FREQUENCY = jnp.array([0.5, 0.3, 0.2])


def group_evaluation(group_loss, observed=(True, True, True)):
    """Loss Σ w_g ℓ_g with proxies ℓ_g − ℓ, as CEAG has them."""
    loss = FREQUENCY @ group_loss
    constraints = values(group_loss - loss)._replace(
        proxy_mask=jnp.array(observed), overall=jnp.broadcast_to(loss, (3,))
    )
    return lagrangian.Evaluation(loss, constraints)


@pytest.mark.parametrize("term", OVERALL_TERMS)
@pytest.mark.parametrize("scale", [0.1, 0.3, 2.0])
def test_weights_of_groups_are_what_group_weights_says(term, scale):
    multipliers = scale * jnp.array([0.0, 1.0, 2.0])
    losses = jnp.array([0.2, 0.7, 1.9])
    gradient = jax.grad(lambda x: lagrangian.lagrangian(group_evaluation(x), multipliers, term))(
        losses
    )
    total = multipliers.sum()
    kept = {"full": total, "detached": 0.0, "clipped": min(total, 1.0)}[term]
    expected = FREQUENCY * (1 - kept) + multipliers
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    np.testing.assert_allclose(
        lagrangian.group_weights(FREQUENCY, multipliers, term), expected, atol=1e-6
    )


@pytest.mark.parametrize("term", OVERALL_TERMS)
def test_value_does_not_depend_on_the_overall_term(term):
    multipliers, losses = jnp.array([0.5, 1.0, 2.0]), jnp.array([0.2, 0.7, 1.9])
    evaluation = group_evaluation(losses, (True, False, True))
    by_hand = evaluation.loss + 0.5 * (0.2 - evaluation.loss) + 2.0 * (1.9 - evaluation.loss)
    value = lagrangian.lagrangian(evaluation, multipliers, term)
    np.testing.assert_allclose(value, by_hand, rtol=1e-6)


def test_only_the_full_term_drives_a_loss_up():
    multipliers = jnp.array([0.0, 0.9, 0.9])
    least = {t: lagrangian.group_weights(FREQUENCY, multipliers, t).min() for t in OVERALL_TERMS}
    assert least["full"] < 0
    assert least["clipped"] >= 0 and least["detached"] > 0


def test_gradient_of_the_full_lagrangian_agrees_with_finite_differences():
    def value(params):
        evaluation = toy_2d(surrogate=True)(params)
        return lagrangian.lagrangian(evaluation, jnp.array([1.3, 0.4]), "full")

    check_grads(value, (jnp.array([0.3, -0.7]),), order=1, modes="rev", atol=1e-2, rtol=1e-2)


def test_proxies_that_are_not_a_number_do_not_leak_through_the_mask():
    evaluation = toy_2d()(jnp.array([0.0, 0.0]))
    broken = evaluation.constraints._replace(
        proxy=jnp.array([jnp.nan, 1.0]), proxy_mask=jnp.array([False, True])
    )
    value = lagrangian.lagrangian(evaluation._replace(constraints=broken), jnp.array([1.0, 2.0]))
    assert float(value) == 2.0


def test_unknown_overall_term_lists_the_known_ones():
    with pytest.raises(UserError, match="unknown overall_term 'half'.*full, detached, clipped"):
        lagrangian.dual_primal(optax.sgd(0.1), optax.sgd(0.1), overall_term="half")


@pytest.mark.parametrize(
    ("equality", "bound", "expected"),
    [
        (False, np.inf, [0.7, 0.0, 0.3]),
        (True, np.inf, [0.7, -0.4, 0.3]),
        (True, 0.2, [0.2, -0.2, 0.2]),
    ],
)
def test_ascent_by_hand(equality, bound, expected):
    seen = values(jnp.array([4.0, -5.0, 9.0]))
    seen = seen._replace(violation_mask=jnp.array([True, True, False]))
    optimizer, start = optax.sgd(0.1), jnp.array([0.3, 0.1, 0.3])
    moved, _ = lagrangian.ascend(
        optimizer, start, optimizer.init(start), seen, equality=equality, bound=bound
    )
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_dampened_momentum_by_hand():
    transform = lagrangian.dampened_momentum(0.5, 0.5)
    state, found = transform.init(jnp.zeros(1)), []
    for gradient in (1.0, 2.0, 4.0):
        update, state = transform.update(jnp.array([gradient]), state)
        found.append(float(update[0]))
    assert found == [1.0, 1.5, 2.75]


@pytest.mark.parametrize("weight_limit", [np.inf, 1.0, 2.0])
@pytest.mark.parametrize("primal", [optax.sgd(0.05), optax.sgd(0.02, 0.5), optax.adam(0.01)])
def test_dual_primal_finds_the_known_optimum(primal, weight_limit):
    scheme = lagrangian.dual_primal(primal, optax.sgd(0.1), weight_limit=weight_limit)
    params = jnp.array([0.0, -1.0])
    state = scheme.init(params, 2)

    def body(carry, _):
        return scheme.update(toy_2d(), *carry)[:2], None

    (params, state), _ = jax.lax.scan(body, (params, state), length=6000)
    np.testing.assert_allclose(params, [2 / 3, 1 / 3], atol=1e-3)
    np.testing.assert_allclose(state.multipliers, [4 / 3, 0], atol=1e-3)


@pytest.mark.parametrize(
    ("weight_limit", "scale"), [(np.inf, 1), (7.0, 1), (2.0, 2 / 5), (1, 1 / 5)]
)
def test_weight_limit_bounds_the_step(weight_limit, scale):
    """Weights move by the gradient of L, scaled to a total weight of at most the limit; the
    multipliers and the value reported do not change."""
    params, multipliers = jnp.array([0.0, -1.0]), jnp.array([3.0, 0.0])
    scheme = lagrangian.dual_primal(optax.sgd(1.0), optax.sgd(0.5), weight_limit=weight_limit)
    state = scheme.init(params, 2)._replace(multipliers=multipliers)
    after, state, info = scheme.update(toy_2d(), params, state)
    gradient = jnp.array([-4.0, -4.0 - 4.0])
    np.testing.assert_allclose(after - params, -gradient * scale, rtol=1e-6)
    np.testing.assert_allclose(state.multipliers, [4.0, 0.0])
    np.testing.assert_allclose(info.lagrangian, 2 + 4 * 2)
