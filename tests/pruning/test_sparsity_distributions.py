"""Distributions: closed forms by hand, filters, custom sparsities by path, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import pruning
from bap_jax.errors import UserError
from bap_jax.pruning.sparsity_distributions import (
    KERNEL_FILTER_FN,
    erk,
    filter_from_tree,
    leaf_keys,
    uniform,
)


def shaped(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


PARAMS = {
    "first": {"kernel": shaped(10, 10), "bias": shaped(10)},
    "last": {"kernel": shaped(10, 40), "scale": shaped(10, 1)},
}


def removed(params, targets):
    """Weights that the targets remove, and weights of the leaves that have one."""
    absent = {"is_leaf": lambda node: node is None}
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(targets, **absent), strict=True)
    chosen = [(np.prod(leaf.shape), target) for leaf, target in pairs if target is not None]
    return sum(size * target for size, target in chosen), sum(size for size, _ in chosen)


def test_uniform_is_the_same_everywhere_but_in_vectors():
    assert uniform(PARAMS, 0.7) == {
        "first": {"kernel": 0.7, "bias": None},
        "last": {"kernel": 0.7, "scale": 0.7},
    }


def test_a_filter_chooses_by_name_or_by_shape():
    by_name = uniform(PARAMS, 0.7, KERNEL_FILTER_FN)
    assert by_name["last"] == {"kernel": 0.7, "scale": None}
    by_shape = uniform(PARAMS, 0.7, lambda key, leaf: leaf.shape == (10,))
    assert by_shape["first"] == {"kernel": None, "bias": 0.7}
    chosen = filter_from_tree(
        {"first": {"kernel": False, "bias": True}, "last": {"kernel": True, "scale": False}}
    )
    assert uniform(PARAMS, 0.7, chosen) == {
        "first": {"kernel": None, "bias": 0.7},
        "last": {"kernel": 0.7, "scale": None},
    }


def test_a_lone_array_counts_as_a_kernel():
    assert leaf_keys(shaped(3, 3)) == [("kernel",)]
    assert uniform(shaped(3, 3), 0.7, KERNEL_FILTER_FN) == 0.7
    assert uniform(shaped(3), 0.7) is None


def test_erk_of_two_layers_by_hand():
    # Densities ∝ (10 + 10) / 100 = .2 and (10 + 40) / 400 = .125; of 500 weights 150 stay:
    # scale (.2 · 100 + .125 · 400) = 150, so scale = 15 / 7.
    found = erk(PARAMS, 0.7, KERNEL_FILTER_FN)
    assert found["first"]["kernel"] == pytest.approx(1 - 0.2 * 15 / 7)
    assert found["last"]["kernel"] == pytest.approx(1 - 0.125 * 15 / 7)
    assert found["first"]["bias"] is None
    assert removed(PARAMS, found) == (pytest.approx(350), 500)


def test_erk_leaves_dense_what_would_pass_a_density_of_one():
    # The column of 10 has (10 + 1) / 10 = 1.1 and passes 1, so all of it stays; of 510 weights
    # 153 are to stay, 143 of them in the kernels: scale 143 / 70.
    found = erk(PARAMS, 0.7)
    assert found["last"]["scale"] == 0
    assert found["first"]["kernel"] == pytest.approx(1 - 0.2 * 143 / 70)
    assert found["last"]["kernel"] == pytest.approx(1 - 0.125 * 143 / 70)
    assert removed(PARAMS, found) == (pytest.approx(357), 510)


def test_erk_counts_all_axes_of_a_convolution():
    params = {"conv": shaped(3, 3, 8, 16), "dense": shaped(64, 64)}
    found = erk(params, 0.9)
    density = {"conv": (3 + 3 + 8 + 16) / 1152, "dense": 128 / 4096}
    ratio = (1 - found["conv"]) / (1 - found["dense"])
    assert ratio == pytest.approx(density["conv"] / density["dense"])
    # What is removed of each leaf is rounded down before it is shared out anew.
    assert removed(params, found)[0] == pytest.approx(int(0.9 * 1152) + int(0.9 * 4096))


def test_erk_of_no_sparsity_is_dense_and_of_one_layer_is_uniform():
    assert set(jax.tree.leaves(erk(PARAMS, 0.0))) == {0.0}
    assert erk({"w": shaped(30, 20)}, 0.8) == {"w": pytest.approx(0.8)}


@pytest.mark.parametrize("distribution", [uniform, erk])
@pytest.mark.parametrize("path", [("last", "kernel"), "last/kernel"])
def test_a_leaf_may_have_a_sparsity_of_its_own(distribution, path):
    found = distribution(PARAMS, 0.7, KERNEL_FILTER_FN, {path: 0.25})
    assert found["last"] == {"kernel": 0.25, "scale": None}
    assert found["first"]["kernel"] == pytest.approx(0.7)  # the others reach .7 by themselves


@pytest.mark.parametrize("distribution", [uniform, erk])
def test_a_sparsity_of_its_own_needs_no_filter_and_none_is_dense(distribution):
    own = {"first/bias": 0.5, "last/scale": None}
    found = distribution(PARAMS, 0.7, custom_sparsity_map=own)
    assert found["first"]["bias"] == 0.5
    assert found["last"]["scale"] is None


def test_numbers_are_part_of_paths():
    found = uniform([{0: shaped(2, 2)}, {0: shaped(2, 2)}], 0.5, custom_sparsity_map={"1/0": 0.25})
    assert found == [{0: 0.5}, {0: 0.25}]


def test_in_a_global_ranking_a_leaf_may_have_a_sparsity_of_its_own():
    weights = jnp.arange(1.0, 49).reshape(6, 8)
    updater = pruning.create_updater_from_config(
        {"algorithm": "global_magnitude", "sparsity": 0.5, "custom_sparsity_map": {"a": 0.75}}
    )
    _, masks = updater.instant_sparsify({"a": weights, "b": weights})
    assert [int(mask.sum()) for mask in masks.values()] == [12, 24]


@pytest.mark.parametrize("distribution", [uniform, erk])
@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 95, float("nan")])
def test_a_sparsity_out_of_range(distribution, sparsity):
    with pytest.raises(UserError, match=r"sparsity must lie in \[0, 1\).*For 95 % write 0.95"):
        distribution(PARAMS, sparsity)
    with pytest.raises(UserError, match=r"sparsity of last/kernel must lie in \[0, 1\)"):
        distribution(PARAMS, 0.5, custom_sparsity_map={"last/kernel": sparsity})


@pytest.mark.parametrize("distribution", [uniform, erk])
@pytest.mark.parametrize("path", ["kernel", ("last", "weight"), "last"])
def test_an_unknown_path_names_the_known_ones(distribution, path):
    with pytest.raises(UserError, match="unknown parameter path.*known paths: first/bias, first/"):
        distribution(PARAMS, 0.5, custom_sparsity_map={path: 0.1})


def test_erk_of_nothing():
    with pytest.raises(UserError, match="nothing to prune: no leaf passes filter_fn"):
        erk(PARAMS, 0.5, lambda key, leaf: False)


def test_an_updater_without_a_distribution_cannot_prune_at_once():
    updater = pruning.MagnitudePruning(sparsity_distribution_fn=None)
    with pytest.raises(UserError, match="sparsity_distribution_fn needs to be provided"):
        updater.instant_sparsify({"w": jnp.ones((2, 2))})


@pytest.mark.parametrize("updater", [pruning.MagnitudePruning(), pruning.GlobalMagnitudePruning()])
def test_by_default_nothing_is_removed(updater):
    weights = jnp.arange(48.0).reshape(6, 8)
    _, masks = updater.instant_sparsify({"a": weights, "b": weights})
    np.testing.assert_array_equal(masks["a"], 1)
    np.testing.assert_array_equal(masks["b"], 1)


@pytest.mark.parametrize("distribution", [uniform, erk])
def test_the_default_filter_has_to_find_something_in_a_tree(distribution):
    with pytest.raises(UserError, match=r"nothing to prune: .* paths and shapes: a/bias \(8,\)"):
        distribution({"a": {"bias": np.ones(8)}}, sparsity=0.5)
    assert distribution({"a": {"bias": np.ones(8), "kernel": np.ones((8, 8))}}, sparsity=0.5)
