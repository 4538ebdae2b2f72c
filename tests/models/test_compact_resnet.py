"""A residual network without its dead channels computes what the masked one does."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import models
from tests.models.smaller import (
    IMAGES,
    apply_masks,
    assert_same,
    both_modes,
    channel_masks,
    dead_at_random,
    drawn,
)

RESNET = models.build("resnet", 3, depth=8, width=4)
RESNET_GROUPS = models.channel_groups(RESNET)
FULL, KEPT = [4, 4, 8, 8, 16, 16], [3, 2, 5, 6, 4, 9]  # channels of these groups


def test_nothing_dead_leaves_the_network():
    variables = drawn(RESNET, IMAGES)
    same, unchanged = models.compact(
        RESNET, jax.tree.map(lambda leaf: None, variables.params), variables
    )
    assert same is RESNET
    chex.assert_trees_all_equal(unchanged, variables)
    masks = dead_at_random(variables.params, RESNET_GROUPS, [4, 4, 8, 8, 16, 16])
    same, thinned = models.compact(RESNET, masks, variables)
    assert same is RESNET
    chex.assert_trees_all_equal(thinned.params, apply_masks(variables.params, masks))


def test_a_resnet_with_random_dead_channels():
    variables = drawn(RESNET, IMAGES)
    masks = dead_at_random(variables.params, RESNET_GROUPS, KEPT)
    small, few = assert_same(RESNET, variables, masks, IMAGES)
    assert (small.module.stream_widths, small.module.block_widths) == ((3, 5, 4), (2, 6, 9))
    before, after = (models.cost(m, v, IMAGES) for m, v in ((RESNET, variables), (small, few)))
    assert after.params < before.params / 2 and after.multiply_adds < before.multiply_adds / 2
    again, same = models.compact(small, None, few)
    assert again is small
    chex.assert_trees_all_equal(same, few)


@pytest.mark.parametrize("name", ["stage_1", "stage_2", "stage_2_block_0"])
def test_a_resnet_with_one_dead_group(name):
    """One channel of it stays, all zero; the layers after it must still count as active."""
    variables = drawn(RESNET, IMAGES)
    kept = [0 if group.name == name else k for group, k in zip(RESNET_GROUPS, FULL, strict=True)]
    masks = channel_masks(variables.params, RESNET_GROUPS, kept)
    small, _ = assert_same(RESNET, variables, masks, IMAGES)
    widths = dict(zip(("stage_1", "stage_2", "stage_3"), small.module.stream_widths, strict=True))
    widths |= dict(
        zip((group.name for group in RESNET_GROUPS[1::2]), small.module.block_widths, strict=True)
    )
    assert widths[name] == 1 and sorted(widths.values()) == sorted(max(k, 1) for k in kept)


def test_a_resnet_in_which_every_channel_is_dead():
    """The logits are the bias of the head."""
    variables = drawn(RESNET, IMAGES)
    masks = channel_masks(variables.params, RESNET_GROUPS, [0] * 6)
    small, few = assert_same(RESNET, variables, masks, IMAGES)
    assert small.module.stream_widths == small.module.block_widths == (1, 1, 1)
    found, _ = both_modes(small)(few, IMAGES)[1]
    np.testing.assert_allclose(found, np.tile(variables.params["head"]["bias"], (3, 1)), rtol=1e-6)


def test_a_column_that_reads_only_dead_channels_stays_active():
    """It is a constant, its norm's bias; without weights it would be 0."""
    variables = drawn(RESNET, IMAGES)
    masks = channel_masks(variables.params, RESNET_GROUPS, [4, 2, 8, 8, 16, 16])
    dead = np.flatnonzero(~masks["stage_1_block_0"]["conv_1"]["kernel"][0, 0, 0].astype(bool))
    kernel = np.zeros((3, 3, 4, 4), np.uint8)
    kernel[..., 1:] = 1
    kernel[:, :, dead[1], 0] = 1
    masks["stage_1_block_0"]["conv_2"]["kernel"] = jnp.asarray(kernel)
    small, _ = assert_same(RESNET, variables, masks, IMAGES)
    assert small.module.block_widths == (3, 8, 16)
