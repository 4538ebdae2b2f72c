"""Constraints among some groups: the same as on their samples alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import constraints, training
from bap_jax.constraints import DenseReference, Observations, among
from bap_jax.errors import UserError
from bap_jax.training import methods

RNG = np.random.default_rng(0)
COUNT, CHOSEN = 60, [3, 1]
IDS = RNG.integers(0, 5, COUNT)  # 4 is no group
DENSE, SPARSE = RNG.random((2, COUNT)) < 0.7
LOSS, DENSE_LOSS = RNG.random((2, COUNT)).astype(np.float32)


def observed(rows, ids):
    ones = jnp.ones(len(rows))
    correct = jnp.asarray(SPARSE[rows], jnp.float32)
    return Observations(jnp.asarray(LOSS[rows]), correct, jnp.asarray(ids)[:, None], ones)


def reference_of(rows, ids, num_groups):
    def means(values):
        return jnp.array([values[rows][ids == g].mean() for g in range(num_groups)], jnp.float32)

    counts = np.bincount(ids, minlength=num_groups)[:num_groups]
    return DenseReference(
        means(DENSE),
        DENSE[rows].mean(),
        means(DENSE_LOSS),
        DENSE_LOSS[rows].mean(),
        jnp.asarray(counts / len(rows)),
        jnp.asarray(counts),
    )


MAKERS = {
    "ceag": lambda part: constraints.excess_accuracy_gap(part, 0.01, buffer_size=2),
    "of a batch": lambda part: constraints.excess_accuracy_gap(part, 0.01, buffer_size=0),
    "floor": lambda part: constraints.worst_group_floor(part, 0.01, buffer_size=2),
    "pairwise": lambda part: constraints.pairwise_disparity(part, 0.01, buffer_size=2),
    "el": lambda part: constraints.equalized_loss(part),
}


@pytest.mark.parametrize("name", MAKERS)
def test_it_is_the_constraint_on_their_samples_alone(name):
    everything, make = np.arange(COUNT), MAKERS[name]
    rows = np.flatnonzero(np.isin(IDS, CHOSEN))
    local = np.array([CHOSEN.index(i) for i in IDS[rows]])
    expected = make(reference_of(rows, local, 2))
    wanted, _ = expected.evaluate(expected.init(), observed(rows, local))
    wanted = wanted._replace(unit=wanted.unit * len(rows) / COUNT)  # shares of all samples

    found = among(reference_of(everything, IDS, 4), CHOSEN, make)
    values, _ = jax.jit(found.evaluate)(found.init(), observed(everything, IDS))
    for one, other in zip(values, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    kinds = found.size // 2
    assert found.size == expected.size and found.groups == (3, 1) * kinds
    assert found.names(list("abcd"))[:2] == ["d", "b"]


def test_the_state_ignores_other_groups_and_samples_of_no_group():
    found = among(reference_of(np.arange(COUNT), IDS, 4), CHOSEN, MAKERS["ceag"])
    others = np.flatnonzero(~np.isin(IDS, CHOSEN))
    ids = np.where(IDS[others] == 4, -1, IDS[others])
    _, state = found.evaluate(found.init(), observed(others, ids))
    np.testing.assert_array_equal(state.seen, [0, 0])


@pytest.mark.parametrize("groups", [[], [0, 0], [4], [-1], [0.5], 1, [True]])
def test_groups_that_cannot_be(groups):
    with pytest.raises(UserError, match=r"among takes (a list of|distinct) group ids"):
        among(reference_of(np.arange(COUNT), IDS, 4), groups, MAKERS["ceag"])


def test_several_sets_are_combined_outside():
    def both(part):
        return constraints.combine({"one": MAKERS["ceag"](part)})

    with pytest.raises(UserError, match="write combine"):
        among(reference_of(np.arange(COUNT), IDS, 4), [0], both)


def test_small_groups_are_left_out_by_their_own_size():
    """Four groups, of which two are chosen, with two constraints each: as many as groups."""
    reference = reference_of(np.arange(COUNT), IDS, 4)._replace(count=jnp.array([99, 99, 99, 1]))

    def build(reference, settings):
        part = among(reference, CHOSEN, MAKERS["pairwise"])
        return constraints.combine({"some": part, "all": MAKERS["ceag"](reference)})

    method = methods.build_method(reference, training.Settings(build))
    values, _ = method.constraint.evaluate(
        method.constraint.init(), observed(np.arange(COUNT), IDS)
    )
    np.testing.assert_array_equal(values["some"].proxy_mask, [False, True, False, True])
    np.testing.assert_array_equal(values["all"].proxy_mask, [True, True, True, False])
    large = np.array([True, True, True, False])
    acts = methods.watched(method, large)
    np.testing.assert_array_equal(acts, [False, True, False, True, True, True, True, False])
