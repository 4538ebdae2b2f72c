"""The overall part of proxies ℓ_g − ℓ, in every formulation with an `overall_term`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values
from bap_jax.lagrangian import OVERALL_TERMS

FREQUENCY = np.array([0.5, 0.3, 0.2])
LOSSES = np.array([0.2, 0.7, 1.9])
TOLERANCE = 0.05


def group_evaluation(group_loss, observed=(True, True, True)):
    """Loss Σ w_g ℓ_g with proxies ℓ_g − ℓ, as CEAG has them."""
    loss = FREQUENCY @ group_loss
    constraints = constraint_values(
        group_loss - loss, proxy_mask=np.array(observed), overall=loss, tolerance=TOLERANCE
    )
    return lagrangian.Evaluation(loss, constraints)


def weights_of(group_loss, multipliers, term, observed=(True, True, True)):
    """Gradient of loss and linear term with respect to each group's loss."""

    def value(group_loss):
        evaluation = group_evaluation(group_loss, observed)
        return evaluation.loss + lagrangian.linear_term(evaluation.constraints, multipliers, term)

    return jax.grad(value)(group_loss)


@pytest.mark.parametrize("term", OVERALL_TERMS)
@pytest.mark.parametrize("scale", [0.1, 0.3, 2.0])
def test_weights_of_groups_agree_with_group_weights(term, scale):
    multipliers = scale * np.array([0.0, 1.0, 2.0])
    total = multipliers.sum()
    kept = {"full": total, "detached": 0.0, "clipped": min(total, 1.0)}[term]
    expected = FREQUENCY * (1 - kept) + multipliers
    np.testing.assert_allclose(weights_of(LOSSES, multipliers, term), expected, atol=1e-6)
    on_host = lagrangian.group_weights(FREQUENCY, multipliers, term)
    np.testing.assert_allclose(on_host, expected, atol=1e-6)
    assert isinstance(on_host, np.ndarray)


@pytest.mark.parametrize("term", OVERALL_TERMS)
def test_groups_outside_the_batch_do_not_count(term):
    multipliers = np.array([0.5, 8.0, 0.7])
    seen = np.array([0.5, 0.0, 0.7])
    found = weights_of(LOSSES, multipliers, term, (True, False, True))
    np.testing.assert_allclose(found, lagrangian.group_weights(FREQUENCY, seen, term), atol=1e-6)


@pytest.mark.parametrize("term", OVERALL_TERMS)
def test_value_does_not_depend_on_the_overall_term(term):
    multipliers = jnp.array([0.5, 1.0, 2.0])
    evaluation = group_evaluation(LOSSES, (True, False, True))
    value = lagrangian.linear_term(evaluation.constraints, multipliers, term)
    by_hand = 0.5 * (0.2 - evaluation.loss) + 2.0 * (1.9 - evaluation.loss)
    np.testing.assert_allclose(value, by_hand, rtol=1e-6)


def test_only_the_full_term_drives_a_loss_up():
    multipliers = np.array([0.0, 0.9, 0.9])
    least = {t: lagrangian.group_weights(FREQUENCY, multipliers, t).min() for t in OVERALL_TERMS}
    assert least["full"] < 0
    assert least["clipped"] >= 0 and least["detached"] > 0


def curved(name, term):
    """A formulation and the weights that it gives proxies h: [λ + κ(h − ε)]_+ or κ[h − ε]_+."""
    multipliers, penalty = np.array([0.3, 0.2, 0.6]), 1.5
    if name == "augmented":
        formulation = lagrangian.augmented(penalty, start=multipliers, overall_term=term)
        return formulation, lambda h: np.maximum(multipliers + penalty * (h - TOLERANCE), 0)
    formulation = lagrangian.quadratic_penalty(penalty, overall_term=term)
    return formulation, lambda h: np.maximum(penalty * (h - TOLERANCE), 0)


@pytest.mark.parametrize("term", OVERALL_TERMS)
@pytest.mark.parametrize("name", ["augmented", "quadratic_penalty"])
@pytest.mark.parametrize("observed", [(True, True, True), (True, False, True)])
def test_nonlinear_formulations_weight_groups_the_same_way(name, term, observed):
    formulation, weights = curved(name, term)

    def value(group_loss, formulation=formulation):
        evaluation = group_evaluation(group_loss, observed)
        return evaluation.loss + formulation.penalty_term(
            evaluation.constraints, formulation.init(3)
        )

    weight = np.where(observed, weights(LOSSES - FREQUENCY @ LOSSES), 0)
    assert (weight > 0).any() and (weight == 0).any()
    found = jax.grad(value)(jnp.asarray(LOSSES))
    expected = lagrangian.group_weights(FREQUENCY, weight, term)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    plain = curved(name, "full")[0]
    np.testing.assert_allclose(value(LOSSES), value(LOSSES, plain), rtol=1e-6)
