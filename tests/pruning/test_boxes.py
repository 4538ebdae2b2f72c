"""Filters, maps and updaters on trees whose arrays are in boxes: NNX variables, Linen metadata."""

import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from bap_jax import pruning
from bap_jax.errors import UserError
from bap_jax.pruning.sparsity_distributions import KERNEL_FILTER_FN, erk, uniform
from bap_jax.trees import is_box, unboxed
from bap_jax.types import ChannelGroup

X, Y = jnp.ones((4, 6)), jnp.arange(4) % 3
BOXED_INIT = nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "out"))
LOGICAL_INIT = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("in", "out"))
AT_ONCE = pruning.OneShotSchedule(0)
PATHS = {"first/kernel": (6, 8), "first/bias": (8,), "last/kernel": (8, 3), "last/bias": (3,)}


class NnxNet(nnx.Module):
    def __init__(self, init: Any = None):
        options: Any = {"rngs": nnx.Rngs(0)} | ({"kernel_init": init} if init else {})
        self.first, self.last = nnx.Linear(6, 8, **options), nnx.Linear(8, 3, **options)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


class LinenNet(nn.Module):
    init_kernel: Any = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(8, kernel_init=self.init_kernel, name="first")(x))
        return nn.Dense(3, kernel_init=self.init_kernel, name="last")(x)


def partitioned_nnx():
    with flax.config.temp_flip_flag("always_shard_variable", False):
        return NnxNet(nnx.with_partitioning(nnx.initializers.lecun_normal(), ("in", "out")))


def linen_params(init):
    return LinenNet(init).init(jax.random.key(0), X)["params"]


TREES = {
    "nnx": lambda: nnx.state(NnxNet(), nnx.Param),
    "pure nnx": lambda: nnx.to_pure_dict(nnx.state(NnxNet(), nnx.Param)),
    "partitioned nnx": lambda: nnx.state(partitioned_nnx(), nnx.Param),
    "linen": lambda: linen_params(nn.initializers.lecun_normal()),
    "partitioned linen": lambda: linen_params(BOXED_INIT),
    "logical linen": lambda: linen_params(LOGICAL_INIT),
}
if hasattr(nnx, "as_pure"):  # not in Flax 0.12.4
    TREES["unboxed nnx"] = lambda: nnx.as_pure(nnx.state(NnxNet(), nnx.Param))
KINDS = pytest.mark.parametrize("kind", TREES)


def targets_by_path(tree):
    paths = pruning.leaf_paths(
        jax.tree.map(lambda leaf: 0, tree, is_leaf=lambda leaf: leaf is None)
    )
    return dict(zip(paths, jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None), strict=True))


@KINDS
def test_paths_are_those_a_user_reads(kind):
    params = TREES[kind]()
    shapes = dict(zip(pruning.leaf_paths(params), jax.tree.leaves(params), strict=True))
    assert {path: leaf.shape for path, leaf in shapes.items()} == PATHS
    plain = unboxed(params)
    assert not any(map(is_box, jax.tree.leaves(plain, is_leaf=is_box)))
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(plain), jax.tree.leaves(params))


@KINDS
@pytest.mark.parametrize(
    "filter_fn",
    [
        pruning.path_filter("*/kernel"),
        pruning.path_filter("**/kernel"),
        pruning.path_filter(["first/*", "last/*"]),
        pruning.path_filter("*/kernel/value"),
        KERNEL_FILTER_FN,
    ],
    ids=["glob", "any depth", "two", "as JAX prints it", "KERNEL_FILTER_FN"],
)
def test_a_filter_finds_kernels(kind, filter_fn):
    found = targets_by_path(uniform(TREES[kind](), 0.5, filter_fn))
    assert found == {path: 0.5 if "kernel" in path else None for path in PATHS}


@KINDS
@pytest.mark.parametrize("distribution", [uniform, erk])
@pytest.mark.parametrize("key", ["last/kernel", ("last", "kernel"), "last/kernel/value"])
def test_a_map_finds_its_leaf(kind, distribution, key):
    found = distribution(TREES[kind](), 0.5, custom_sparsity_map={key: 0.25})
    assert targets_by_path(found)["last/kernel"] == 0.25


@KINDS
@pytest.mark.parametrize("distribution", [uniform, erk])
def test_a_filter_that_matches_nothing_lists_the_paths(kind, distribution):
    for pattern in ("*/weight", "body/*", "kernel", "*/kernel/w"):
        with pytest.raises(
            UserError, match=r"nothing to prune: no leaf passes filter_fn"
        ) as caught:
            distribution(TREES[kind](), 0.5, pruning.path_filter(pattern))
        assert distribution is erk or all(path in str(caught.value) for path in PATHS)


def test_a_filter_that_matches_nothing_fails_in_every_algorithm_that_takes_one():
    never = pruning.path_filter("*/weight")
    params = TREES["linen"]()
    layerwise = functools.partial(uniform, sparsity=0.5, filter_fn=never)
    for name in ("magnitude", "set", "rigl", "static_sparse"):
        updater = pruning.ALGORITHM_REGISTRY[name](sparsity_distribution_fn=layerwise)
        with pytest.raises(UserError, match="nothing to prune"):
            updater.wrap_optax(optax.sgd(0.1)).init(params)
    updater = pruning.GlobalMagnitudePruning(sparsity=0.5, filter_fn=never)
    with pytest.raises(UserError, match="nothing to prune"):
        updater.wrap_optax(optax.sgd(0.1)).init(params)


def test_nothing_has_to_match_where_nothing_is_asked_for():
    never = pruning.path_filter("*/weight")
    assert targets_by_path(uniform(TREES["linen"](), 0.0, never)) == dict.fromkeys(PATHS)
    chosen = uniform(TREES["linen"](), 0.5, never, {"first/kernel": 0.75})
    assert targets_by_path(chosen) == dict.fromkeys(PATHS) | {"first/kernel": 0.75}


@pytest.mark.parametrize("distribution", [uniform, erk])
def test_a_map_may_list_alternatives_if_it_says_so(distribution):
    params = TREES["linen"]()
    alternatives = {"last/kernel": 0.25, "head/kernel": 0.25}
    with pytest.raises(UserError, match="unknown parameter path 'head/kernel'; known paths: first"):
        distribution(params, 0.5, custom_sparsity_map=alternatives)
    found = distribution(params, 0.5, custom_sparsity_map=alternatives, unknown_paths="ignore")
    assert targets_by_path(found)["last/kernel"] == 0.25
    with pytest.raises(UserError, match="no path of custom_sparsity_map is known: head/kernel"):
        distribution(params, 0.5, custom_sparsity_map={"head/kernel": 0.25}, unknown_paths="ignore")


def updater_of(name, **fields):
    options = {"scheduler": AT_ONCE, "sparsity_distribution_fn": HALF_OF_KERNELS} | fields
    if name.startswith("global"):
        del options["sparsity_distribution_fn"]
        options |= {"sparsity": 0.5, "filter_fn": KERNEL_FILTER_FN}
    return pruning.ALGORITHM_REGISTRY[name](**options)


HALF_OF_KERNELS = functools.partial(uniform, sparsity=0.5, filter_fn=KERNEL_FILTER_FN)
NAMES = ["magnitude", "saliency", "global_magnitude", "magnitude_ste", "rigl", "static_sparse"]


def nnx_loss(net, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean()


def zeros(params):
    leaves = zip(pruning.leaf_paths(params), jax.tree.leaves(params), strict=True)
    return {path: int((leaf == 0).sum()) for path, leaf in leaves if "kernel" in path}


@pytest.mark.parametrize("make", [NnxNet, partitioned_nnx], ids=["plain", "partitioned"])
@pytest.mark.parametrize("name", NAMES)
def test_an_nnx_optimiser_prunes(name, make):
    net, updater = make(), updater_of(name, pruned_moments="restart")
    optimizer = nnx.Optimizer(net, updater.wrap_optax(optax.adam(0.1)), wrt=nnx.Param)
    for _ in range(3):
        optimizer.update(net, nnx.grad(nnx_loss)(net, X, Y))
    params = nnx.state(net, nnx.Param)
    params = updater.post_gradient_update(params, optimizer.opt_state)
    if updater.is_straight_through:
        params = updater.pre_forward_update(params, optimizer.opt_state)
    else:
        pruning.check_applied(params, optimizer.opt_state)
    found = zeros(params)
    assert sum(found.values()) == 36
    assert name.startswith("global") or found == {"first/kernel": 24, "last/kernel": 12}
    nnx.update(net, params)
    assert zeros(nnx.state(net, nnx.Param)) == found


@pytest.mark.parametrize("name", ["saliency", "global_saliency"])
def test_gradients_may_be_plain_where_parameters_are_boxed(name):
    net, updater = NnxNet(), updater_of(name)
    params, grads = nnx.state(net, nnx.Param), nnx.grad(nnx_loss)(net, X, Y)
    _, masks = updater.instant_sparsify(params, grads)
    _, again = updater.instant_sparsify(params, nnx.to_pure_dict(grads))
    jax.tree.map(np.testing.assert_array_equal, again, masks)


def test_check_applied_names_a_leaf_of_an_nnx_state():
    net, updater = NnxNet(), updater_of("magnitude")
    optimizer = nnx.Optimizer(net, updater.wrap_optax(optax.sgd(0.1)), wrt=nnx.Param)
    optimizer.update(net, nnx.grad(nnx_loss)(net, X, Y))
    net.last.kernel[...] = jnp.ones((8, 3))
    with pytest.raises(UserError, match="12 removed weights of last/kernel are not 0"):
        pruning.check_applied(nnx.state(net, nnx.Param), optimizer.opt_state)


@KINDS
@pytest.mark.parametrize("name", ["magnitude", "global_magnitude", "magnitude_ste", "set"])
def test_a_training_loop_on_boxed_parameters(kind, name):
    params, updater = TREES[kind](), updater_of(name)
    tx = updater.wrap_optax(optax.sgd(0.1, momentum=0.9))
    state = tx.init(params)
    for _ in range(2):
        seen = updater.pre_forward_update(params, state)
        updates, state = tx.update(jax.tree.map(jnp.cos, seen), state, params)
        params = optax.apply_updates(params, updates)
        params = updater.post_gradient_update(params, state)
    seen = updater.pre_forward_update(params, state)
    assert sum(zeros(seen).values()) == 36
    assert jax.tree.structure(seen) == jax.tree.structure(TREES[kind]())


@KINDS
def test_everything_that_reads_masks_reads_boxes(kind):
    params = TREES[kind]()
    pruned, masks = updater_of("magnitude").instant_sparsify(params)
    assert pruning.leaf_sparsity(masks) == {"first/kernel": 0.5, "last/kernel": 0.5}
    assert pruning.sparsity(pruned, masks).prunable == 0.5
    assert pruning.summarize_sparsity(masks)["first/kernel"] == 0.5
    plain: Any = {"first": {"bias": None}, "last": {"bias": None}}
    flat = dict(zip(pruning.leaf_paths(masks), jax.tree.leaves(masks), strict=True))
    for layer in plain:
        plain[layer]["kernel"] = flat[f"{layer}/kernel"]
    again = pruning.apply_masks(params, plain)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, again, pruned)
    fixed = pruning.FixedMasks(masks=plain).instant_sparsify(params)[0]
    jax.tree.map(np.testing.assert_array_equal, fixed, pruned)


def test_masks_of_other_paths_are_an_error():
    with pytest.raises(UserError, match="in one of two trees only: .*first/weight"):
        pruning.apply_masks(TREES["linen"](), {"first": {"weight": jnp.ones((6, 8))}})


def test_channels_of_boxed_parameters():
    params = TREES["partitioned linen"]()
    group = [("first/kernel",), ("first/bias",), (), ("last/kernel",)]
    updater = pruning.ChannelPruning(groups=[ChannelGroup("hidden", *group)], sparsity=0.5)
    _, masks = updater.instant_sparsify(params)
    assert pruning.leaf_sparsity(masks) == {"first/bias": 0.5, "first/kernel": 0.5}


def test_a_node_with_one_attribute_called_value_is_a_box_and_nothing_else_is():
    param, partitioned = nnx.Param(jnp.ones(2)), nn.Partitioned(jnp.ones(2), (None,))
    assert is_box(param) and is_box(partitioned) and is_box(nnx.Param(None))
    for node in ({"value": 1.0}, [1.0], (1.0,), None, jnp.ones(2), 1.0, "value", nnx.State({})):
        assert not is_box(node)
    nested = {"a": nnx.Param({"b": jnp.ones(2), "c": nn.Partitioned(jnp.ones(3), (None,))})}
    assert pruning.leaf_paths(nested) == ["a/b", "a/c"]
    assert pruning.leaf_paths({"value": jnp.ones(2)}) == ["value"]
