"""What goes wrong in jaxpruner and must not here; one test or more for each fault."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import pruning
from bap_jax.errors import UserError
from bap_jax.pruning import wrapping
from bap_jax.pruning.sparsity_types import Block, NByM
from tests.pruning import updaters
from tests.pruning.updaters import MASKED, layers, leaves, make

PARAMS = layers(leaves())
AT_ONCE = pruning.OneShotSchedule(0)


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.setattr(wrapping, "cond_per_member", updaters.plain_choice)


def pruned_once(name="magnitude", params=PARAMS, inner=None, **fields):
    """Parameters and state after one step, without `post_gradient_update`."""
    tx = make(name, scheduler=AT_ONCE, **fields).wrap_optax(inner or updaters.optimizer())
    updates, state = tx.update(params, tx.init(params), params)
    return optax.apply_updates(params, updates), state


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", MASKED)
def test_a_forgotten_post_gradient_update_leaves_no_dense_weights(name, packed, plain):
    params, state = pruned_once(name, use_packed_masks=packed)
    zeros = sum(int(jnp.sum(layer["kernel"] == 0)) for layer in params.values())
    assert zeros == 48
    pruning.check_applied(params, state)


@pytest.mark.parametrize("narrow", [jnp.bfloat16, jnp.float16])
def test_gradients_of_lower_precision_than_the_weights_leave_no_rest(narrow, plain):
    tx = make("magnitude", scheduler=AT_ONCE).wrap_optax(optax.sgd(0.1))
    grads = jax.tree.map(lambda leaf: leaf.astype(narrow), PARAMS)
    updates, state = tx.update(grads, tx.init(PARAMS), PARAMS)
    params = optax.apply_updates(PARAMS, updates)
    pruning.check_applied(params, state)
    assert int(jnp.sum(params["a"]["kernel"] == 0)) == 24


@pytest.mark.parametrize("packed", [False, True])
def test_dense_weights_that_a_later_transformation_leaves_are_found(packed, plain):
    updater = make("magnitude", scheduler=AT_ONCE, use_packed_masks=packed)
    tx = optax.chain(updater.wrap_optax(optax.sgd(0.1)), optax.scale(0.5))
    updates, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    params = optax.apply_updates(PARAMS, updates)
    text = "24 removed weights of a/kernel are not 0.*params = updater.post_gradient_update"
    with pytest.raises(UserError, match=text):
        pruning.check_applied(params, state)
    pruning.check_applied(updater.post_gradient_update(params, state), state)


def test_a_state_without_masks_cannot_be_checked():
    with pytest.raises(UserError, match="holds no SparseState.*wrap_optax"):
        pruning.check_applied(PARAMS, optax.sgd(0.1).init(PARAMS))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["set", "rigl"])
def test_weights_are_exchanged_beside_leaves_that_are_not_pruned(name, packed, plain):
    updater = make(name, scheduler=AT_ONCE, use_packed_masks=packed)
    tx = updater.wrap_optax(optax.sgd(0.1))
    before = tx.init(PARAMS)
    params, after = pruned_once(name, use_packed_masks=packed)
    for layer in ("a", "b"):
        assert after.masks[layer]["bias"] is None
        old, new = (
            np.asarray(updater.unpacked_masks(state, PARAMS)[layer]["kernel"])
            for state in (before, after)
        )
        assert old.sum() == new.sum() == 24
        # .3 of 24 go, of which the growth may bring some back; the others stay.
        assert 0 < np.sum(old & ~new & 1) <= 7
        assert jnp.all(params[layer]["bias"] != 0)


def test_rigl_drops_the_smallest_and_grows_where_gradients_are_largest():
    updater = pruning.RigL(drop_fraction_fn=lambda step: 0.5, scheduler=AT_ONCE)
    masks = {"w": jnp.array([[1, 1, 1, 1], [0, 0, 0, 0]], jnp.uint8), "b": None}
    params = {"w": jnp.array([[4.0, -1, 2, -3], [0, 0, 0, 0]]), "b": jnp.ones(2)}
    grads = {"w": jnp.array([[0.0, 0.5, 0.1, 0], [1, -9, 0.2, -0.3]]), "b": jnp.ones(2)}
    state = pruning.SparseState(masks, count=jnp.int32(0))
    new = updater.update_state(state, params, grads).masks
    np.testing.assert_array_equal(new["w"], [[1, 0, 0, 1], [1, 1, 0, 0]])
    assert new["b"] is None


def alive_blocks(mask, block):
    """How many blocks stay, after a check that none is broken."""
    height, width = block
    planes = mask.reshape(-1, *mask.shape[-2:]) if mask.ndim > 1 else mask.reshape(1, 1, -1)
    corners = [
        (plane, top, left)
        for plane in planes
        for top in range(0, plane.shape[0], height)
        for left in range(0, plane.shape[1], width)
    ]
    tiles = [plane[top : top + height, left : left + width] for plane, top, left in corners]
    assert all(tile.min() == tile.max() for tile in tiles)
    return sum(int(tile[0, 0]) for tile in tiles)


@pytest.mark.parametrize("use_avg_pooling", [True, False])
@pytest.mark.parametrize(
    ("shape", "block", "kept"),
    [((2, 8), (2, 2), 2), ((5, 7), (2, 2), 6), ((3, 3, 4, 6), (4, 4), 9), ((7,), (4, 2), 2)],
)
def test_blocks_of_any_shape(shape, block, kept, use_avg_pooling):
    weights = np.random.default_rng(0).uniform(0.1, 1, shape).astype(np.float32)
    updater = pruning.MagnitudePruning(
        sparsity_type=Block(block, use_avg_pooling), sparsity_distribution_fn=lambda params: 0.5
    )
    _, mask = jax.jit(updater.instant_sparsify)(weights)
    assert mask.shape == shape
    assert alive_blocks(np.asarray(mask), block) == kept


def test_a_block_cut_by_the_edge_counts_by_its_own_mean():
    weights = jnp.array([[5.0, 5, 4, 4, 2, 2, 3]] * 2)
    updater = pruning.MagnitudePruning(
        sparsity_type=Block((2, 2)), sparsity_distribution_fn=lambda params: 0.25
    )
    _, mask = updater.instant_sparsify(weights)  # the last block's mean is 3 and not 1.5
    np.testing.assert_array_equal(mask, [[1, 1, 1, 1, 0, 0, 1]] * 2)


@pytest.mark.parametrize("shape", [(8, 5), (3, 3, 4, 5)])
def test_n_by_m_lies_along_the_inputs(shape):
    weights = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    _, mask = jax.jit(make("magnitude", sparsity_type=NByM(2, 4)).instant_sparsify)(weights)
    by_input = np.moveaxis(np.asarray(mask), -2, -1).reshape(-1, 4)
    np.testing.assert_array_equal(by_input.sum(-1), 2)
    # Five outputs are no multiple of four: along them the same weights cannot be pruned.
    with pytest.raises(UserError, match="m = 4 along axis -1.*not divisible.*filter_fn"):
        make("magnitude", sparsity_type=NByM(2, 4, axis=-1)).instant_sparsify(weights)


def test_a_misaligned_schedule_reaches_its_target(plain):
    kept = {}
    for aligned in (True, False):
        schedule = pruning.PolynomialSchedule(5, 1, 8, aligned=aligned, power=1)
        updater = make("magnitude", sparsity=0.5, scheduler=schedule)
        _, state = updaters.loop(updater, updater.wrap_optax(optax.sgd(0.1)), PARAMS, steps=10)
        kept[aligned] = int(state.masks["a"]["kernel"].sum())
    assert kept == {True: 24, False: round(48 * (1 - 0.5 * 5 / 7))}  # jaxpruner's stops at step 5


def test_sparsity_is_counted_from_masks_and_not_from_zeros():
    params = PARAMS | {"zero": jnp.zeros((4, 4))}
    masks = {
        "a": {"bias": None, "kernel": jnp.ones((6, 8), jnp.uint8).at[:3].set(0)},
        "b": {"bias": None, "kernel": jnp.ones((6, 8), jnp.uint8)},
        "zero": None,
    }
    found = pruning.sparsity(params, masks)
    assert found == pruning.Sparsity(24 / 96, 24 / 128)
    assert pruning.leaf_sparsity(masks) == {"a/kernel": 0.5, "b/kernel": 0.0}
    summary = pruning.summarize_sparsity(masks)
    assert float(summary["_total_sparsity"]) == 0.25
    assert float(summary["a/kernel"]) == 0.5
    assert "zero" not in summary


def one_step(axes):
    """`counts ->` how often scores are computed when members with these counts take one step."""
    calls = []

    class Counting(pruning.MagnitudePruning):
        def calculate_scores(self, params, sparse_state=None, grads=None):
            jax.debug.callback(lambda: calls.append(1))
            return super().calculate_scores(params, sparse_state, grads)

    updater = Counting(scheduler=AT_ONCE, sparsity_distribution_fn=lambda params: {"w": 0.5})
    tx = updater.wrap_optax(optax.sgd(0.1))
    params = {"w": leaves()[1]}
    state = updaters.as_arrays(tx.init(params))

    def masks(count):
        return tx.update(params, state._replace(count=count), params)[1].masks["w"]

    for _ in range(axes):
        masks = jax.vmap(masks)
    masks = jax.jit(masks)

    def calls_of(counts):
        calls.clear()
        kept = np.asarray(masks(jnp.asarray(counts))).sum(axis=(-1, -2))
        jax.effects_barrier()
        np.testing.assert_array_equal(kept, np.where(np.asarray(counts) == 0, 24, 48))
        return len(calls)

    return calls_of


def test_only_members_that_are_due_cost_an_update():
    calls_of = one_step(axes=1)
    assert calls_of([5, 0, 3, 0, 1]) == 2
    assert calls_of([1, 2, 3, 4, 5]) == 0
    assert calls_of([0, 0, 0, 0, 0]) == 5


def test_only_members_that_are_due_cost_an_update_in_a_grid():
    calls_of = one_step(axes=2)
    assert calls_of([[0, 1, 2], [3, 4, 5]]) == 1
    assert calls_of([[6, 0, 0], [0, 1, 0]]) == 4
    assert calls_of([[1, 2, 3], [4, 5, 6]]) == 0
