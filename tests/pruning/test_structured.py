"""Scores and masks of whole channels."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax.errors import UserError
from bap_jax.pruning import apply_masks
from bap_jax.pruning.structured import channel_masks, channel_scores
from bap_jax.trees import leaves_by_path
from bap_jax.types import ChannelGroup

GROUPS = (
    ChannelGroup("one", ("conv/kernel", "skip/kernel"), ("norm/bias", "norm/scale"), (), ("next",)),
    ChannelGroup("two", ("next",), (), (), ()),
)


def drawn(seed):
    draw = np.random.default_rng(seed).normal
    sizes = {
        "conv": {"kernel": (3, 3, 2, 4)},
        "head": {"bias": (6,)},
        "next": (4, 6),
        "norm": {"bias": (4,), "scale": (4,)},
        "skip": {"kernel": (2, 4)},
    }
    return jax.tree.map(
        lambda size: jnp.float32(draw(size=size)), sizes, is_leaf=lambda s: isinstance(s, tuple)
    )


PARAMS = drawn(0)


def test_scores_by_hand():
    """Column 0: √((1 + 4 + 4) / 3) with two weights in one kernel and one in the other."""
    params = {"a": jnp.array([[1.0, 0.0], [2.0, 3.0]]), "b": jnp.array([[-2.0, 0.0]])}
    scores = channel_scores(params, ChannelGroup("g", ("a", "b")))
    np.testing.assert_allclose(scores, np.sqrt([3.0, 3.0]), rtol=1e-6)


def test_scores_and_masks_of_heads():
    """Heads lie on axis 1 of the kernel `(in, head, feature)`, on axis 0 of the bias."""
    params = {"kernel": jnp.array([[[3.0, 0.0], [0.0, 2.0], [2.0, 2.0]]]), "bias": jnp.ones((3, 2))}
    axes = {"kernel": 1, "bias": 0}
    group = ChannelGroup("heads", ("kernel",), ("bias",), axes=axes)
    np.testing.assert_allclose(channel_scores(params, group), np.sqrt([4.5, 2.0, 4.0]), rtol=1e-6)
    masks = channel_masks(params, [group], [2])
    assert masks["kernel"].tolist() == [[[1, 1], [0, 0], [1, 1]]]
    assert masks["bias"].tolist() == [[1, 1], [0, 0], [1, 1]]


def test_scores_do_not_grow_with_the_fan_in():
    one, other = (
        channel_scores({"w": jnp.full((n, 3), -0.5)}, ChannelGroup("g", ("w",))) for n in (2, 50)
    )
    np.testing.assert_allclose(one, 0.5)
    np.testing.assert_allclose(other, 0.5)


def test_scores_of_half_precision_are_float32():
    scores = channel_scores({"w": jnp.full((9, 2), 3e-4, jnp.float16)}, ChannelGroup("g", ("w",)))
    assert scores.dtype == jnp.float32
    np.testing.assert_allclose(scores, 3e-4, rtol=1e-3)


def test_masks_by_hand():
    """Scores 3, 1, 2: two stay. Everything that the dead channel has goes with it."""
    params = {"dense": {"bias": jnp.ones(3), "kernel": jnp.array([[3.0, -1.0, 2.0]] * 2)}}
    params["head"] = {"bias": jnp.ones(5), "kernel": jnp.ones((3, 5))}
    group = ChannelGroup("g", ("dense/kernel",), ("dense/bias",), (), ("head/kernel",))
    masks = channel_masks(params, [group], [2])
    assert masks["head"] == {"bias": None, "kernel": None}
    np.testing.assert_array_equal(masks["dense"]["bias"], [1, 0, 1])
    np.testing.assert_array_equal(masks["dense"]["kernel"], [[1, 0, 1]] * 2)
    assert {leaf.dtype for leaf in jax.tree.leaves(masks)} == {jnp.dtype(jnp.uint8)}
    np.testing.assert_array_equal(apply_masks(params, masks)["dense"]["bias"], [1, 0, 1])


def test_one_group_shares_one_choice():
    masks = jax.jit(channel_masks, static_argnums=1)(PARAMS, GROUPS, [3, 1])
    norm = masks["norm"]["scale"]
    assert int(norm.sum()) == 3
    assert channel_scores(leaves_by_path(PARAMS), GROUPS[0]).argmin() == norm.argmin()
    np.testing.assert_array_equal(masks["norm"]["bias"], norm)
    np.testing.assert_array_equal(masks["skip"]["kernel"], jnp.stack([norm] * 2))
    np.testing.assert_array_equal(masks["conv"]["kernel"].reshape(-1, 4), jnp.stack([norm] * 18))
    assert int(masks["next"][0].sum()) == 1 and masks["head"]["bias"] is None


@pytest.mark.parametrize("kept", range(5))
def test_ties_keep_the_lower_index(kept):
    masks = channel_masks({"w": jnp.ones((2, 4))}, [ChannelGroup("g", ("w",))], [kept])
    np.testing.assert_array_equal(masks["w"], [[i < kept for i in range(4)]] * 2)


def test_what_is_gone_goes_first():
    params = {"w": jnp.array([[0.0, 0.1, -0.1, 0.0]])}
    masks = channel_masks(params, [ChannelGroup("g", ("w",))], [2])
    np.testing.assert_array_equal(masks["w"], [[0, 1, 1, 0]])


def test_jit_is_no_jit_and_vmap_is_a_loop():
    many = [drawn(seed) for seed in range(3)]
    kept = jnp.array([[0, 6], [1, 3], [4, 0]], jnp.int32)
    plain = [channel_masks(p, GROUPS, k.tolist()) for p, k in zip(many, kept, strict=True)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)

    def masks(params, kept):
        return channel_masks(params, GROUPS, kept)

    chex.assert_trees_all_equal(
        jax.jit(jax.vmap(masks))(stacked, kept),
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *plain),
    )
    chex.assert_trees_all_equal(jax.jit(masks)(many[1], kept[1]), plain[1])


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ([3], r"one number of channels for each of 2 groups; got 1\. Write kept=\[4, 6\] to keep"),
        ([5, 6], r"cannot keep 5 of the 4 channels of group 'one'; .* from 0 to 4\."),
        ([4, -1], r"cannot keep -1 of the 6 channels of group 'two'"),
        ([0.5, 1], r"cannot keep 0\.5 of the 4 channels .*; write a whole number"),
        (jnp.array([4, 7]), r"cannot keep 7 of the 6 channels of group 'two'"),
    ],
)
def test_numbers_that_cannot_be_kept(kept, message):
    with pytest.raises(UserError, match=message):
        channel_masks(PARAMS, GROUPS, kept)


def test_groups_that_do_not_fit():
    group = ChannelGroup("g", ("conv/kernel", "next"))
    for call in (
        lambda: channel_masks(PARAMS, [group], [1]),
        lambda: jax.jit(lambda params: channel_masks(params, [group], [1]))(PARAMS),
    ):
        with pytest.raises(UserError, match=r"'next' to have shape \(\.\.\., 4\).* got \(4, 6\)"):
            call()
