"""Which leaves are pruned."""

import jax
import numpy as np
import pytest

from bap_jax import pruning
from bap_jax.errors import UserError
from bap_jax.pruning import filters

SHAPES = {
    "a_head": {"kernel": (6, 3), "bias": (3,)},
    "m_dense": {"kernel": (8, 6), "bias": (6,)},
    "norm": {"scale": (4,), "bias": (4,)},
    "y_conv": {"kernel": (3, 3, 4, 8), "bias": (8,)},
    "z_stem": {"kernel": (3, 3, 1, 4), "bias": (4,)},
}
PAPER = "all_but_first_and_last"
ORDER = ["z_stem/kernel", "y_conv/kernel", "m_dense/kernel", "a_head/kernel"]


def params_of(*layers):
    chosen = {layer: SHAPES[layer] for layer in layers}
    return jax.tree.map(np.zeros, chosen, is_leaf=lambda leaf: isinstance(leaf, tuple))


def choose(choice, order=ORDER, layers=tuple(SHAPES)):
    """Paths chosen in a network of these layers."""
    params = params_of(*layers)
    kernels = [filters.Kernel(path, path.startswith(("y_conv", "z_stem"))) for path in order]
    prunable = filters.prunable_leaves(choice, params, kernels)
    assert jax.tree.structure(params) == jax.tree.structure(prunable)
    leaves = jax.tree.leaves(prunable)
    return {path for path, leaf in zip(pruning.leaf_paths(params), leaves, strict=True) if leaf}


def test_first_convolution_and_last_linear_layer_are_spared():
    assert choose(PAPER) == {"y_conv/kernel", "m_dense/kernel"}


def test_order_of_use_decides():
    order = ["y_conv/kernel", "z_stem/kernel", "a_head/kernel", "m_dense/kernel"]
    assert choose(PAPER, order) == {"z_stem/kernel", "a_head/kernel"}


@pytest.mark.parametrize(
    ("layers", "order", "expected"),
    [
        (("m_dense", "a_head"), ORDER[2:], {"m_dense/kernel"}),  # no convolution to spare
        (("z_stem", "y_conv", "norm"), ORDER[:2], {"y_conv/kernel"}),  # no linear layer to spare
        (("z_stem", "m_dense", "a_head"), [ORDER[0], *ORDER[2:]], {"m_dense/kernel"}),
    ],
)
def test_networks_of_one_kind(layers, order, expected):
    assert choose(PAPER, order, layers) == expected


@pytest.mark.parametrize(
    ("preset", "expected"), [(PAPER, {"y_conv/kernel", "m_dense/kernel"}), ("kernels", set(ORDER))]
)
def test_biases_and_norms_are_never_pruned(preset, expected):
    order = ["norm/scale", *ORDER, "norm/bias", "m_dense/bias", "a_head/bias"]
    assert choose(preset, order) == expected


@pytest.mark.parametrize(
    ("preset", "layers", "order", "listed"),
    [
        (PAPER, ("a_head",), ["a_head/kernel"], "a_head/kernel"),
        (PAPER, ("z_stem", "a_head"), [ORDER[0], ORDER[3]], "z_stem/kernel, a_head/kernel"),
        (PAPER, ("norm",), ["norm/scale"], "it has none"),
        ("kernels", ("norm",), ["norm/scale"], "it has none"),
    ],
)
def test_nothing_to_prune(preset, layers, order, listed):
    message = rf"nothing to prune: '{preset}' .* \({listed}\).*{PAPER}, kernels\) or paths"
    with pytest.raises(UserError, match=message):
        choose(preset, order, layers)


@pytest.mark.parametrize("choice", ["norm/scale,a_head/kernel", " norm/scale , a_head/kernel "])
def test_paths_choose_exactly_what_they_name(choice):
    assert choose(choice) == {"norm/scale", "a_head/kernel"}


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ("*/kernel", {"a/kernel", "b/c/kernel"}),
        ("b/*", {"b/c/kernel"}),
        ("**/table, a/*", {"table", "a/kernel"}),
        ("a/bias,b/*/kernel", {"a/bias", "b/c/kernel"}),
        ("?/kernel/value", {"a/kernel"}),
    ],
)
def test_patterns_choose_leaves_of_two_dimensions(choice, chosen):
    kernel, bias = np.ones((2, 2)), np.ones(2)
    params = {"a": {"kernel": kernel, "bias": bias}, "b": {"c": {"kernel": kernel}}}
    params |= {"table": kernel}
    selected = filters.prunable_leaves(choice, params, ())
    found = dict(zip(pruning.leaf_paths(params), jax.tree.leaves(selected), strict=True))
    assert {path for path, is_chosen in found.items() if is_chosen} == chosen


@pytest.mark.parametrize("choice", ["*/bias", "head/*", "*/kernel,kernel/*"])
def test_a_pattern_that_chooses_nothing_lists_the_paths(choice):
    params = {"a": {"kernel": np.ones((2, 2)), "bias": np.ones(2)}}
    with pytest.raises(UserError, match="unknown parameter path .*known paths: a/bias, a/kernel;"):
        filters.prunable_leaves(choice, params, ())


@pytest.mark.parametrize("choice", ["norm/scale,head", "head", "head,tail"])
def test_an_unknown_path_lists_the_known(choice):
    message = (
        f"unknown parameter path 'head'; known paths: norm/bias, norm/scale; "
        f"known presets: {PAPER}, kernels"
    )
    with pytest.raises(UserError, match=message):
        choose(choice, layers=("norm",))
    with pytest.raises(UserError, match=message):
        filters.select_paths(params_of("norm"), choice.split(","))


def test_paths_follow_the_order_of_the_leaves():
    tree = {"layers": [{"w": 0, "b": 1}, {"w": 2}], "a": 3}
    assert pruning.leaf_paths(tree) == ["a", "layers/0/b", "layers/0/w", "layers/1/w"]
    assert jax.tree.leaves(tree) == [3, 1, 0, 2]
