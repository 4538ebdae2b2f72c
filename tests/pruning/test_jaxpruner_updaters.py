"""What updaters of `pruning.jaxpruner` do, and that every hook is called, in the engine, too."""

import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import pruning
from bap_jax.errors import UserError
from bap_jax.pruning import jaxpruner
from bap_jax.pruning.jaxpruner.algorithms import sparse_trainers, ste
from tests.pruning import updaters

LIBRARIES = pytest.mark.parametrize("library", [pruning, jaxpruner], ids=["ours", "jaxpruner"])
HALF = functools.partial(jaxpruner.sparsity_distributions.uniform, sparsity=0.5)
ALL_HALF = functools.partial(HALF, filter_fn=lambda *_: True)
ONCE = jaxpruner.OneShotSchedule(0)
PARAMS = {"w": jnp.array([[0.1, -0.9, 0.2], [0.5, -0.3, 0.7]])}
GRADS = {"w": jnp.array([[9.0, 0.1, 8.0], [0.2, 7.0, 0.1]])}
SMALLEST = {"w": jnp.array([[1, 0, 1], [0, 1, 0]], jnp.uint8)}  # the opposite of magnitudes


def smallest(params, sparse_state=None, grads=None):
    return jax.tree.map(lambda leaf: -jnp.abs(leaf), params)


def step(updater, params=PARAMS, grads=GRADS, inner=None, **extra):
    """The state after one step, and the parameters."""
    tx = updater.wrap_optax(optax.sgd(0.1, momentum=0.9) if inner is None else inner)
    updates, state = tx.update(grads, tx.init(params), params, **extra)
    return state, optax.apply_updates(params, updates)


def assert_masks(found, wanted):
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_wrapping_calls_each_hook_once():
    distribution, inner = mock.MagicMock(), mock.MagicMock()
    inner.update.return_value = ({}, None)
    updater = jaxpruner.BaseUpdater(
        scheduler=jaxpruner.PolynomialSchedule(1, 0, 1), sparsity_distribution_fn=distribution
    )
    updater.get_initial_masks = mock.MagicMock()
    tx = updater.wrap_optax(inner)
    tx.init({})
    distribution.assert_called_once()
    updater.get_initial_masks.assert_called_once()
    updater.calculate_scores = mock.MagicMock(return_value=None)
    tx.update({}, jaxpruner.SparseState(masks=None, count=0), {})
    updater.calculate_scores.assert_called_once()
    inner.update.assert_called_once()


def test_pruning_once_calls_each_hook_once():
    distribution = mock.MagicMock(return_value={})
    updater = jaxpruner.BaseUpdater(sparsity_distribution_fn=distribution)
    updater.calculate_scores = mock.MagicMock(return_value={})
    updater.create_masks = mock.MagicMock(return_value={"a": jnp.array([1, 0])})
    pruned, masks = updater.instant_sparsify({"a": jnp.array([2.0, -3.0])})
    assert pruned["a"].tolist() == [2.0, 0.0] and masks["a"].tolist() == [1, 0]
    distribution.assert_called_once()
    updater.calculate_scores.assert_called_once()
    with pytest.raises(ValueError, match="sparsity_distribution_fn needs to be provided"):
        jaxpruner.MagnitudePruning(sparsity_distribution_fn=None).instant_sparsify(PARAMS)


def test_scores_are_plain_whatever_has_been_removed():
    state = jaxpruner.SparseState(masks=SMALLEST, count=jnp.array(3))
    magnitude = jaxpruner.MagnitudePruning().calculate_scores(PARAMS, state)
    np.testing.assert_array_equal(magnitude["w"], jnp.abs(PARAMS["w"]))
    saliency = jaxpruner.SaliencyPruning().calculate_scores(
        params=PARAMS, sparse_state=state, grads=GRADS
    )
    np.testing.assert_allclose(saliency["w"], jnp.abs(PARAMS["w"] * GRADS["w"]))
    random = jaxpruner.RandomPruning().calculate_scores(PARAMS, state)["w"]
    np.testing.assert_array_equal(random != 0, SMALLEST["w"] == 1)
    with pytest.raises(NotImplementedError):
        jaxpruner.BaseUpdater().calculate_scores(PARAMS)


def test_random_scores_follow_the_key_that_the_updater_has_now():
    updater = jaxpruner.RandomPruning(sparsity_distribution_fn=HALF)
    found = []
    for seed in (0, 5, 0):
        updater.rng_seed = jax.random.PRNGKey(seed)
        found.append(updater.calculate_scores(PARAMS)["w"])
    assert_masks(found[0], found[2])
    assert (found[0] != found[1]).any()


@LIBRARIES
def test_scores_put_on_the_object_count_once_and_in_training(library):
    updater = library.MagnitudePruning(scheduler=ONCE, sparsity_distribution_fn=HALF)
    assert updater.may_regrow() == (library is jaxpruner)
    updater.calculate_scores = smallest
    assert_masks(updater.instant_sparsify(PARAMS)[1], SMALLEST)
    assert_masks(step(updater)[0].masks, SMALLEST)
    assert updater.may_regrow()  # nobody knows what the function ranks last
    joint = library.GlobalMagnitudePruning(scheduler=ONCE, sparsity=0.5)
    joint.calculate_scores = smallest
    assert_masks(step(joint)[0].masks, SMALLEST)


@LIBRARIES
def test_other_hooks_put_on_the_object_are_called_too(library):
    make = functools.partial(
        library.MagnitudePruning, scheduler=ONCE, sparsity_distribution_fn=HALF
    )
    updater = make()
    updater.create_masks = lambda scores, sparsities: SMALLEST
    assert_masks(step(updater)[0].masks, SMALLEST)
    updater = make()
    updater.update_state = lambda state, params, grads: state._replace(masks=SMALLEST)
    assert_masks(step(updater)[0].masks, SMALLEST)
    updater = make()
    updater.post_gradient_update = lambda params, state: params
    _, params = step(updater)
    assert (params["w"] != 0).all()  # the user's own rule is left alone


@LIBRARIES
def test_masks_of_a_function_of_ones_own(library):
    def alternate(scores, sparsity):
        del sparsity
        return (jnp.arange(scores.size) % 2 == 0).reshape(scores.shape)

    updater = library.MagnitudePruning(
        scheduler=ONCE, sparsity_distribution_fn=HALF, topk_fn=alternate
    )
    assert updater.topk_fn is alternate
    wanted = {"w": alternate(PARAMS["w"], 0.5)}
    assert_masks(step(updater)[0].masks, wanted)
    later = library.MagnitudePruning(scheduler=ONCE, sparsity_distribution_fn=HALF)
    assert callable(later.topk_fn)
    later.topk_fn = alternate
    assert_masks(later.instant_sparsify(PARAMS)[1], wanted)
    joint = library.GlobalMagnitudePruning(sparsity=0.5, topk_fn=alternate)
    both = {"a": PARAMS["w"][:1], "b": PARAMS["w"][1:]}
    _, masks = joint.instant_sparsify(both)
    assert masks["a"].tolist() == [[1, 0, 1]] and masks["b"].tolist() == [[0, 1, 0]]


def test_a_topk_function_of_a_type_is_kept_when_the_updater_is_copied():
    topk = jaxpruner.mask_calculator.get_topk_fn(jaxpruner.sparsity_types.NByM(1, 3))
    updater = jaxpruner.MagnitudePruning(sparsity_distribution_fn=HALF, topk_fn=topk)
    rows = jnp.array([[0, 1, 0], [0, 0, 1]])
    for each in (updater, dataclasses.replace(updater, skip_gradients=True)):
        assert_masks(each.instant_sparsify(PARAMS)[1]["w"], rows)
    plain = jaxpruner.MagnitudePruning(sparsity_distribution_fn=HALF)
    lines = dataclasses.replace(plain, sparsity_type=jaxpruner.sparsity_types.NByM(1, 3))
    assert_masks(lines.instant_sparsify(PARAMS)[1]["w"], rows)
    assert_masks(lines.topk_fn(PARAMS["w"] ** 2, 0.5), rows)


@LIBRARIES
def test_a_subclass_may_have_its_own_post_init(library):
    @dataclasses.dataclass
    class Mine(library.MagnitudePruning):
        factor: float = 1.0

        def __post_init__(self):
            super().__post_init__()
            self.scheduler = ONCE

    updater = Mine(sparsity_distribution_fn=HALF, factor=2.0)
    assert updater.factor == 2.0
    assert step(updater)[0].masks["w"].sum() == 3
    for name in ("SET", "GlobalMagnitudePruning"):

        @dataclasses.dataclass
        class Other(getattr(library, name)):
            def __post_init__(self):
                super().__post_init__()

        assert callable(Other().topk_fn)


@LIBRARIES
def test_importance_of_ones_own(library):
    importance = {"w": -jnp.abs(PARAMS["w"])}
    for name in ("MagnitudePruning", "SaliencyPruning", "RandomPruning", "StaticRandomSparse"):
        updater = getattr(library, name)(sparsity_distribution_fn=HALF)
        pruned, masks = updater.instant_sparsify(PARAMS, importance=importance)
        assert_masks(masks, SMALLEST)
        assert_masks(pruned["w"] != 0, SMALLEST["w"] == 1)
    joint = library.GlobalMagnitudePruning(sparsity=0.5)
    assert_masks(joint.instant_sparsify(PARAMS, importance=importance)[1], SMALLEST)


@LIBRARIES
def test_extra_arguments_reach_the_scores_that_take_them(library):
    class Weighted(library.BaseUpdater):
        def calculate_scores(
            self, params, sparse_state=None, grads=None, importance=None, sign=1.0
        ):
            return jax.tree.map(lambda leaf, by: sign * by * jnp.abs(leaf), params, importance)

    updater = Weighted(scheduler=ONCE, sparsity_distribution_fn=HALF)
    ones = {"w": jnp.ones((2, 3))}
    _, masks = updater.instant_sparsify(PARAMS, importance=ones, sign=-1.0)
    assert_masks(masks, SMALLEST)
    state, _ = step(updater, importance=ones, sign=-1.0, loss=3.0)  # optimisers may get others
    assert_masks(state.masks, SMALLEST)
    jitted = jax.jit(lambda importance: step(updater, importance=importance, sign=-1.0)[0].masks)
    assert_masks(jitted(ones), SMALLEST)
    assert updater.extra_arguments == {}
    with pytest.raises(UserError, match=r"Weighted.calculate_scores takes no argument wrong"):
        updater.instant_sparsify(PARAMS, importance=ones, wrong=1)


def test_extra_arguments_pass_an_update_state_that_knows_nothing_of_them():
    class Through(jaxpruner.BaseUpdater):
        def calculate_scores(self, params, sparse_state=None, grads=None, sign=1.0):
            return jax.tree.map(lambda leaf: sign * jnp.abs(leaf), params)

        def update_state(self, sparse_state, params, grads):
            return super().update_state(sparse_state, params, grads)

    updater = Through(scheduler=ONCE, sparsity_distribution_fn=HALF)
    assert_masks(step(updater, sign=-1.0)[0].masks, SMALLEST)


@LIBRARIES
def test_scores_see_the_optimisers_state(library):
    seen = []

    class Momentum(library.BaseUpdater):
        def calculate_scores(self, params, sparse_state=None, grads=None):
            seen.append(jax.tree.structure(sparse_state.inner_state))
            return jax.tree.map(jnp.abs, optax.tree.get(sparse_state.inner_state, "trace"))

    updater = Momentum(scheduler=jaxpruner.OneShotSchedule(1), sparsity_distribution_fn=HALF)
    tx = updater.wrap_optax(optax.sgd(0.1, momentum=0.9))
    state = tx.init(PARAMS)
    for _ in range(2):  # the first step makes momentum, the second prunes by it
        _, state = tx.update(GRADS, state, PARAMS)
    assert_masks(state.masks["w"], jnp.array([[1, 0, 1], [0, 1, 0]]))
    assert set(seen) == {jax.tree.structure(tx.init(PARAMS).inner_state)}


def returns_first(library, **fields):
    """An updater whose scores are the gradients, so that removed weights come back."""

    class ByGradient(library.BaseUpdater):
        def calculate_scores(self, params, sparse_state=None, grads=None):
            return jax.tree.map(jnp.abs, grads)

    return ByGradient(sparsity_distribution_fn=HALF, **fields)


def full_moments(updater, inner, masks=None):
    """The state of an optimiser whose moments are all 1, with some masks."""
    state = updater.wrap_optax(inner).init(PARAMS)
    inner_state = jax.tree.map(
        lambda leaf: jnp.ones_like(leaf) if jnp.ndim(leaf) else leaf, state.inner_state
    )
    return state._replace(masks=masks or state.masks, inner_state=inner_state)


INNER = {
    "sgd": optax.sgd(0.1, momentum=0.9),
    "adam": optax.adam(0.1),
    "lion": optax.lion(0.1),
    "rmsprop": optax.rmsprop(0.1),
    "chain": optax.chain(optax.clip(1.0), optax.adam(0.1)),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, jaxpruner.RigL) for name in INNER),
        *(("adam", kind) for kind in (jaxpruner.SET, pruning.RigL, pruning.SET)),
    ],
)
def test_an_exchange_by_hand_resets_moments_of_new_weights_and_no_others(name, kind):
    fields = {"drop_fraction_fn": lambda step: 0.7, "rng_seed": 2}
    updater = kind(sparsity_distribution_fn=ALL_HALF, **fields)
    before = full_moments(updater, INNER[name], {"w": 1 - SMALLEST["w"]})
    after = updater.update_state(before, PARAMS, GRADS)
    assert after.masks["w"].sum() == before.masks["w"].sum() == 3
    new = (before.masks["w"] == 0) & (after.masks["w"] == 1)
    assert new.any()
    moments = [leaf for leaf in jax.tree.leaves(after.inner_state) if leaf.ndim]
    assert moments
    for leaf in moments:
        np.testing.assert_array_equal(leaf, jnp.where(new, 0, 1))


def test_moments_of_other_pruners_stay_unless_asked_for():
    for library, rule, restarts in (
        (jaxpruner, {}, False),
        (jaxpruner, {"pruned_moments": "restart"}, True),
        (pruning, {}, True),
        (pruning, {"pruned_moments": "keep"}, False),
    ):
        updater = returns_first(library, **rule)
        before = full_moments(updater, INNER["sgd"], {"w": 1 - SMALLEST["w"]})
        after = updater.update_state(before, PARAMS, GRADS)
        assert_masks(after.masks, SMALLEST)
        trace = optax.tree.get(after.inner_state, "trace")["w"]
        np.testing.assert_array_equal(trace == 0, (SMALLEST["w"] == 1) & restarts)


def test_moments_without_a_state_and_of_packed_masks():
    updater = jaxpruner.RigL(sparsity_distribution_fn=ALL_HALF, use_packed_masks=True)
    before = full_moments(updater, INNER["adam"])
    after = updater.update_state(before, PARAMS, GRADS)
    unpacked = [updater.unpacked_masks(each, PARAMS)["w"] for each in (before, after)]
    new = (unpacked[0] == 0) & (unpacked[1] == 1)
    np.testing.assert_array_equal(after.inner_state[0].mu["w"] == 0, new)
    bare = updater.update_state(updater.init_state(PARAMS), PARAMS, GRADS)
    assert bare.inner_state is None


def test_restarting_by_hand():
    masks = {"a": jnp.array([1, 0]), "b": None}
    tree = {"a": jnp.array([5.0, 6.0]), "b": jnp.array([7.0])}
    restarted = sparse_trainers._restart_using_mask(tree, masks)
    assert restarted["a"].tolist() == [0, 6] and restarted["b"].tolist() == [7]
    lists = sparse_trainers._restart_using_mask({"a": [-9, 1, 4]}, {"a": [0, 1, 0]})
    assert [int(leaf) for leaf in lists["a"]] == [-9, 0, 4]
    state = optax.adam(0.1).init(tree)
    state = (state[0]._replace(mu=tree), *state[1:])
    found = sparse_trainers.restart_inner_state(state, masks)
    assert found[0].mu["a"].tolist() == [0, 6] and found[0].mu["b"].tolist() == [7]
    assert found[0].count == 0 and type(found[0]) is type(state[0])


@pytest.mark.parametrize(
    ("fraction", "wanted"),
    [
        (0.0, [0, 1, 0, 1, 0, 1, 1, 0]),
        (0.25, [1, 1, 0, 1, 0, 1, 0, 0]),
        (0.5, [1, 1, 0, 0, 1, 1, 0, 0]),
        (1.0, [1, 0, 1, 0, 1, 1, 0, 0]),
    ],
)
def test_the_exchange_of_one_leaf(fraction, wanted):
    old = jnp.array([0, 1, 0, 1, 0, 1, 1, 0], jnp.uint8)
    scores = jnp.array([-9.0, 1, 4, -1, 5, 8, -2, 3])  # weights there are: 1, −1, 8, −2
    for kind in (jaxpruner.RigL, pruning.SET):
        updater = kind(sparsity_distribution_fn=HALF)
        found = updater._update_masks(old, scores, jnp.abs(scores), drop_fraction=fraction)
        assert found.tolist() == wanted
        # A function of the user's own makes both masks of the exchange.
        updater.topk_fn = jaxpruner.mask_calculator.topk_mask_calculator
        found = updater._update_masks(old, scores, jnp.abs(scores), drop_fraction=fraction)
        assert found.tolist() == wanted


@LIBRARIES
def test_hooks_of_the_sparse_trainers_are_called(library):
    class Mine(library.SET):
        def _get_drop_scores(self, sparse_state, params, grads):
            return jax.tree.map(lambda leaf: -jnp.abs(leaf), params)  # the largest go

        def _get_grow_scores(self, sparse_state, params, grads):
            return jax.tree.map(lambda leaf: leaf, grads)

    fields = {"scheduler": ONCE, "sparsity_distribution_fn": ALL_HALF}
    updater = Mine(**fields, drop_fraction_fn=lambda step: 0.34)
    updater.get_initial_masks = lambda params, targets: {"w": 1 - SMALLEST["w"]}
    state, _ = step(updater)  # −0.9 of (−0.9, 0.5, 0.7) goes, the weight with gradient 9 comes
    assert_masks(state.masks["w"], jnp.array([[1, 0, 0], [1, 0, 1]]))

    calls = []

    class ByLeaf(library.RigL):
        def _update_masks(self, old_mask, drop_score, grow_score, drop_fraction):
            calls.append(old_mask.shape)
            return super()._update_masks(old_mask, drop_score, grow_score, drop_fraction)

    updater, plain = ByLeaf(**fields), library.RigL(**fields)
    two = {"a": PARAMS["w"], "b": PARAMS["w"].T}
    grads = {"a": GRADS["w"], "b": GRADS["w"].T}
    assert_masks(*(step(each, two, grads)[0].masks for each in (updater, plain)))
    assert calls == [(2, 3), (3, 2)]
    put = library.RigL(**fields)
    put._get_grow_scores = lambda state, params, grads: jax.tree.map(lambda g: -g, grads)
    assert (step(put)[0].masks["w"] != step(plain)[0].masks["w"]).any()


@pytest.mark.parametrize("kind", [ste.SteMagnitudePruning, ste.SteRandomPruning])
def test_straight_through_scores_at_every_forward_pass_and_dense_weights(kind):
    updater = kind(sparsity_distribution_fn=HALF)
    tx = updater.wrap_optax(optax.adam(0.01))
    params, state = PARAMS, tx.init(PARAMS)
    updater.calculate_scores = mock.MagicMock(wraps=updater.calculate_scores)
    updater.scheduler = mock.MagicMock(wraps=updater.scheduler)
    for number in range(1, 4):
        seen = updater.pre_forward_update(params, state)
        assert updater.calculate_scores.call_count == number
        assert updater.scheduler.get_sparsity_at_step.call_count == number
        assert (seen["w"] == 0).sum() == 3
        updates, state = tx.update(jax.tree.map(jnp.sign, seen), state, params)
        params = optax.apply_updates(params, updates)
        assert updater.post_gradient_update(params, state) is params
        assert (params["w"] != 0).all()
    once, _ = updater.instant_sparsify(params)
    assert (once["w"] == 0).sum() == 3


def test_updates_at_multiples_and_weights_of_zero_without_a_call():
    rising = jaxpruner.PolynomialSchedule(update_freq=2, update_start_step=1, update_end_step=4)
    updater = jaxpruner.MagnitudePruning(scheduler=rising, sparsity_distribution_fn=HALF)
    tx = updater.wrap_optax(optax.sgd(0.0))
    params, state, kept = PARAMS, tx.init(PARAMS), []
    for _ in range(6):
        updates, state = tx.update(GRADS, state, params)
        params = optax.apply_updates(params, updates)
        kept.append(int(state.masks["w"].sum()))
        assert ((params["w"] != 0) == state.masks["w"]).all()
    assert kept == [6, 6, 3, 3, 3, 3]


def test_shapes_of_an_updater_are_the_originals():
    cube = {"w": jnp.asarray(np.random.default_rng(1).normal(size=(2, 4, 4)), jnp.float32)}
    kinds = jaxpruner.sparsity_types
    lines = jaxpruner.MagnitudePruning(
        sparsity_distribution_fn=HALF, sparsity_type=kinds.NByM(2, 4)
    )
    assert (lines.instant_sparsify(cube)[1]["w"].sum(-1) == 2).all()
    blocks = jaxpruner.MagnitudePruning(
        sparsity_distribution_fn=HALF, sparsity_type=kinds.Block((2, 2))
    )
    mask = blocks.instant_sparsify(cube)[1]["w"]
    assert mask.shape == (2, 4, 4) and (mask == mask[:1, :, :1]).all() and mask.mean() == 0.5
    for kind in (jaxpruner.GlobalMagnitudePruning, jaxpruner.RigL):
        with pytest.raises(UserError, match="Unstructured"):
            kind(sparsity_type=kinds.NByM(2, 4))


@pytest.mark.parametrize("name", updaters.quick("rigl")[1:])
def test_training_is_that_of_the_package_with_its_defaults(name):
    params = updaters.layers(updaters.leaves())
    fields = {"scheduler": jaxpruner.PolynomialSchedule(2, 0, 6), "skip_gradients": False}
    sparsity = {"sparsity": 0.5}
    if "global" not in name:
        sparsity = {"sparsity_distribution_fn": HALF}
    found = jaxpruner.ALGORITHM_REGISTRY[name](**fields, **sparsity)
    ours = pruning.ALGORITHM_REGISTRY[name](**fields, **sparsity)
    after = [
        updaters.loop(each, each.wrap_optax(optax.sgd(0.1)), params, steps=3)
        for each in (found, ours)
    ]
    updaters.assert_same(*after)


def test_members_under_vmap_see_each_its_own_optimisers_state():
    class Momentum(jaxpruner.BaseUpdater):
        def calculate_scores(self, params, sparse_state=None, grads=None):
            return jax.tree.map(jnp.abs, optax.tree.get(sparse_state.inner_state, "trace"))

    updater = Momentum(scheduler=jaxpruner.OneShotSchedule(1), sparsity_distribution_fn=HALF)
    tx = updater.wrap_optax(optax.sgd(0.1, momentum=0.9))
    states = [tx.update(each, tx.init(PARAMS), PARAMS)[1] for each in (GRADS, PARAMS)]
    states[1] = states[1]._replace(count=jnp.array(5))  # not due
    alone = [tx.update(GRADS, state, PARAMS)[1] for state in states]
    pair = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    together = jax.jit(jax.vmap(lambda state: tx.update(GRADS, state, PARAMS)[1]))(pair)
    for member, state in enumerate(alone):
        assert_masks(jax.tree.map(lambda leaf, i=member: leaf[i], together.masks), state.masks)
    assert [int(state.masks["w"].sum()) for state in alone] == [3, 6]
