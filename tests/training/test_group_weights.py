"""What weight each group's loss has, and in which bounds: diagnostics against the gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax.constraints import constraint_values
from bap_jax.lagrangian import OVERALL_TERMS
from bap_jax.training import METHODS, methods
from bap_jax.training.settings import DualSettings
from tests.training.tiny import dual_of, settings_of, tiny, whole_split

LINEAR = ("ceag", "pairwise", "floor", "el", "group_dro", "group_dro_excess")
FREQUENCY = np.array([14, 10, 6]) / 30


def weights_of(method, absent=-1):
    """`multipliers -> weights`: gradient of the Lagrangian with respect to an offset of the losses.

    One constant for every group is added to the losses of its samples.
    """
    start = method.formulation.init(method.constraint.size)
    ids = tiny().train.group_ids[:, 0]
    losses = jax.random.uniform(jax.random.key(1), ids.shape)

    def lagrangian(offset, multipliers):
        dual = start._replace(multipliers=multipliers)
        if isinstance(dual.memory, jax.Array):  # group DRO keeps log q beside q
            dual = dual._replace(memory=jnp.log(multipliers))
        seen = whole_split(losses + offset[ids])
        seen = seen._replace(weight=jnp.where(ids == absent, 0.0, 1.0))
        values, _ = method.constraint.evaluate(method.constraint.init(), seen)
        return method.objective(seen) + method.formulation.penalty_term(values, dual)

    return functools.partial(jax.jit(jax.grad(lagrangian)), jnp.zeros(3))


def as_seldom(multipliers, rule):
    """`auto` divides multipliers by the share of such batches that have a sample of the group, and
    this one has: times that share they act as they do on average."""
    share = 1 - np.exp(-FREQUENCY * 30) if rule == "auto" else np.ones(3)
    return jnp.asarray(multipliers * np.tile(share, multipliers.size // 3), jnp.float32)


def some_multipliers(method, size, total):
    """Multipliers that such a method may have, of about this sum of magnitudes."""
    share = np.random.default_rng(size).dirichlet(np.ones(size)).astype(np.float32)
    if method == "el":
        return total * share * np.array([1, -1, 1], np.float32)
    return share if method.startswith("group_dro") else total * share


@pytest.mark.parametrize(
    ("name", "term", "rule"),
    [(name, term, "ascent") for name in LINEAR for term in OVERALL_TERMS]
    + [(name, "detached", "auto") for name in ("ceag", "pairwise", "floor")]
    + [("el", term, "auto") for term in OVERALL_TERMS],
)
def test_group_weights_are_those_of_the_gradient(name, term, rule):
    method = methods.build_method(
        tiny().reference, settings_of(name, overall_term=term, dual=dual_of(rule))
    )
    frequency, true = np.asarray(tiny().reference.frequency), weights_of(method)
    for total in (0.6, 2.5):
        multipliers = some_multipliers(name, method.constraint.size, total)
        found = method.group_weights(frequency, multipliers)
        np.testing.assert_allclose(found, true(as_seldom(multipliers, rule)), atol=1e-5)
        if name == "ceag" and term == "full":
            assert (found.min() < 0) == (total > 1)


def test_group_dro_shares_the_weight_of_absent_groups():
    method = methods.build_method(tiny().reference, settings_of("group_dro"))
    found = weights_of(method, absent=2)(jnp.array([0.2, 0.3, 0.5]))
    np.testing.assert_allclose(found, [0.4, 0.6, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "rule"),
    [(name, "ascent") for name in LINEAR] + [("ceag", "auto"), ("el", "auto")],
)
def test_group_weights_where_a_group_is_too_small_to_watch(name, rule):
    """Group 2 keeps the multiplier with which it started."""
    method = methods.build_method(
        tiny().reference,
        settings_of(name, min_group_size=10, dual=DualSettings(rule)),
    )
    start = method.formulation.init(method.constraint.size).multipliers.reshape(-1, 3)
    multipliers = np.asarray(start.at[:, :2].add(0.0 if "dro" in name else 0.3)).ravel()
    found = method.group_weights(FREQUENCY, multipliers)
    true = weights_of(method)(as_seldom(multipliers, rule))
    np.testing.assert_allclose(found, true, atol=1e-5)
    assert true[2] > 0


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("el", {"el_absolute": True}),
        ("ceag", {"proxy": "kl"}),
        ("floor", {"dual": DualSettings("augmented")}),
        ("el", {"dual": DualSettings("augmented")}),
        ("penalty", {}),
        ("distillation", {}),
        ("nft", {}),
    ],
)
def test_no_weights_where_the_gradient_is_not_linear_in_the_losses(method, change):
    assert (
        methods.build_method(tiny().reference, settings_of(method, **change)).group_weights is None
    )


@pytest.mark.parametrize("update", ["auto", "ascent", "augmented"])
@pytest.mark.parametrize("name", METHODS)
def test_a_group_without_training_samples_spoils_no_gradient(name, update):
    """The dense model's accuracy and loss on it are not numbers."""
    dense = tiny().reference
    empty = jnp.array([1.0, 1.0, jnp.nan])
    dense = dense._replace(
        group_accuracy=dense.group_accuracy * empty,
        group_loss=dense.group_loss * empty,
        frequency=jnp.array([0.5, 0.5, 0.0]),
        count=jnp.array([15.0, 15.0, 0.0]),
    )
    method = methods.build_method(dense, settings_of(name, dual=dual_of(update)))
    ids = jnp.minimum(tiny().train.group_ids, 1)

    def lagrangian(losses, logits):
        seen = whole_split(losses)._replace(group_ids=ids, logits=logits)
        values, _ = method.constraint.evaluate(method.constraint.init(), seen)
        dual = method.formulation.update_multipliers(
            values, method.formulation.init(method.constraint.size)
        )
        return method.objective(seen) + method.formulation.penalty_term(
            values, dual
        ), dual.multipliers

    args = jnp.ones(30), 0.5 * tiny().train.dense_logits
    gradient, multipliers = jax.jit(jax.grad(lagrangian, (0, 1), has_aux=True))(*args)
    for leaf in (*gradient, multipliers):
        assert np.isfinite(leaf).all()
    assert gradient[0].any() or name == "group_dro"


@pytest.mark.parametrize(
    ("method", "least", "largest"),
    [
        ("pairwise", [0] * 6, [3] * 3 + list(FREQUENCY)),  # lower sides drive losses up
        ("el", [-0.75] * 3, [0.75] * 3),
        ("ceag", [0] * 3, [3] * 3),
        ("floor", [0] * 3, [3] * 3),
    ],
)
@pytest.mark.parametrize("direction", [-1, 1])
def test_bounds_of_the_multipliers(method, least, largest, direction):
    dual = DualSettings("ascent", learning_rate=1e6, bound=3.0)
    built = methods.build_method(tiny().reference, settings_of(method, dual=dual, el_bound=0.75))
    size = built.constraint.size
    values = constraint_values(direction * jnp.ones(size), equality=method == "el")
    found = built.formulation.update_multipliers(values, built.formulation.init(size)).multipliers
    np.testing.assert_allclose(found, least if direction < 0 else largest, rtol=1e-6)
    if method == "pairwise":
        assert built.group_weights(FREQUENCY, np.asarray(found)).min() >= 0
