"""`pruning.jaxpruner`: the original's modules, names, signatures, defaults, and plain functions."""

import copy
import functools
import importlib
import inspect
import pickle

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from bap_jax import pruning
from bap_jax.errors import UserError
from bap_jax.pruning import jaxpruner, registry
from bap_jax.pruning.jaxpruner import (
    mask_calculator,
    sparsity_distributions,
    sparsity_types,
    utils,
)

MODULES = {
    "": "SET BaseUpdater GlobalMagnitudePruning GlobalSaliencyPruning MagnitudePruning NoPruning "
    "NoUpdateSchedule OneShotSchedule PeriodicSchedule PolynomialSchedule RandomPruning RigL "
    "SaliencyPruning SparseState SparsityType StaticRandomSparse SteMagnitudePruning "
    "SteRandomPruning ALGORITHM_REGISTRY all_algorithm_names apply_mask register_algorithm "
    "create_updater_from_config summarize_intersection summarize_sparsity",
    "algorithms": "GlobalMagnitudePruning GlobalSaliencyPruning MagnitudePruning RandomPruning "
    "RigL SET SaliencyPruning StaticRandomSparse SteMagnitudePruning SteRandomPruning",
    "algorithms.global_pruners": "GlobalPruningMixin GlobalMagnitudePruning GlobalSaliencyPruning",
    "algorithms.pruners": "MagnitudePruning SaliencyPruning RandomPruning generate_random_scores "
    "BaseUpdater",
    "algorithms.sparse_trainers": "StaticRandomSparse SET RigL restart_inner_state "
    "_restart_using_mask",
    "algorithms.ste": "SteMixin SteMagnitudePruning SteRandomPruning",
    "api": "ALGORITHMS ALGORITHM_REGISTRY all_algorithm_names register_algorithm "
    "create_updater_from_config",
    "base_updater": "FilterFnType TopkFnType CustomSparsityMapType SparsityDistributionFnType "
    "SparseState apply_mask BaseUpdater NoPruning",
    "mask_calculator": "MASK_DTYPE TopKFnType get_topk_fn topk_mask_calculator "
    "topk_n_by_m_mask_calculator topk_block_mask_calculator topk_channel_mask_calculator "
    "_topk_mask_calculator_internal",
    "sparsity_distributions": "FilterFnType CustomSparsityMapType KERNEL_FILTER_FN "
    "NOT_DIM_ONE_FILTER_FN uniform erk get_n_zeros get_sparsities_erdos_renyi",
    "sparsity_schedules": "NoUpdateSchedule OneShotSchedule PeriodicSchedule PolynomialSchedule",
    "sparsity_types": "Unstructured Block NByM Channel SparsityType is_sparsity_type",
    "utils": "summarize_sparsity summarize_intersection",
}
FIELDS = [
    "scheduler",
    "skip_gradients",
    "is_sparse_gradients",
    "sparsity_type",
    "sparsity_distribution_fn",
    "rng_seed",
    "use_packed_masks",
    "topk_fn",
]
ALGORITHMS = [
    "no_prune",
    "magnitude",
    "random",
    "saliency",
    "magnitude_ste",
    "random_ste",
    "global_magnitude",
    "global_saliency",
    "static_sparse",
    "rigl",
    "set",
]


def positional(function):
    """The parameters that may be given by position, and their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {
        each.name: each.default for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD
    }


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_the_names_of_the_original(module):
    path = "bap_jax.pruning.jaxpruner" + (f".{module}" if module else "")
    found = importlib.import_module(path)
    assert [name for name in MODULES[module].split() if not hasattr(found, name)] == []
    # `import jaxpruner` alone gives access to every submodule.
    assert functools.reduce(getattr, module.split(".") if module else [], jaxpruner) is found


SIBLINGS = {
    "algorithms.global_pruners": "base_updater sparsity_distributions sparsity_types",
    "algorithms.pruners": "base_updater",
    "algorithms.sparse_trainers": "base_updater",
    "algorithms.ste": "base_updater",
    "api": "algorithms base_updater sparsity_distributions sparsity_schedules sparsity_types",
    "base_updater": "mask_calculator sparsity_distributions sparsity_schedules sparsity_types",
    "mask_calculator": "sparsity_types",
}


@pytest.mark.parametrize("module", MODULES)
def test_modules_within_modules_are_those_of_the_original(module):
    path = "bap_jax.pruning.jaxpruner" + (f".{module}" if module else "")
    found = importlib.import_module(path)
    for name in SIBLINGS.get(module, "").split():
        assert getattr(found, name) is getattr(jaxpruner, name)
    # `from ... import *` must not put a module of the engine into a user's file.
    public = getattr(found, "__all__", [name for name in vars(found) if not name.startswith("_")])
    modules = [vars(found)[name] for name in public if inspect.ismodule(vars(found)[name])]
    inside = [each for each in modules if each.__name__.startswith("bap_jax.")]
    assert [each for each in inside if ".jaxpruner" not in each.__name__] == []


def test_constructors_take_the_same_arguments_in_the_same_order():
    assert list(positional(jaxpruner.BaseUpdater)) == FIELDS
    for name in ("MagnitudePruning", "SaliencyPruning", "RandomPruning", "StaticRandomSparse"):
        assert list(positional(getattr(jaxpruner, name))) == FIELDS
    for kind in (jaxpruner.SET, jaxpruner.RigL):
        assert list(positional(kind)) == [*FIELDS, "eps", "drop_fraction_fn", "is_debug"]
    own = ["custom_sparsity_map", "filter_fn", "normalization_eps", "use_normalization", "sparsity"]
    assert list(positional(jaxpruner.GlobalSaliencyPruning)) == [*FIELDS, *own]
    steps = ["update_freq", "update_start_step", "update_end_step"]
    assert list(positional(jaxpruner.PeriodicSchedule)) == steps
    assert positional(jaxpruner.PolynomialSchedule)["power"] == 3
    assert positional(sparsity_types.NByM)["axis"] == -1
    assert list(positional(sparsity_types.Block)) == ["block_shape", "use_avg_pooling"]
    erk = ["param_tree", "sparsity", "filter_fn", "custom_sparsity_map"]
    assert list(positional(sparsity_distributions.erk)) == [*erk, "include_excluded_params"]
    assert list(positional(sparsity_distributions.uniform)) == ["params", *erk[1:]]


def test_defaults_of_updaters():
    plain = jaxpruner.MagnitudePruning()
    assert not (plain.skip_gradients or plain.is_sparse_gradients or plain.use_packed_masks)
    assert isinstance(plain.scheduler, jaxpruner.NoUpdateSchedule)
    assert isinstance(plain.sparsity_type, sparsity_types.Unstructured)
    assert plain.sparsity_distribution_fn({"w": np.ones((2, 2))}) == {"w": 0.0}
    assert callable(plain.topk_fn)
    np.testing.assert_array_equal(plain.topk_fn(jnp.array([3.0, 1.0, 2.0, 0.0]), 0.5), [1, 0, 1, 0])
    np.testing.assert_array_equal(plain.rng_seed, jax.random.PRNGKey(8))
    assert jaxpruner.StaticRandomSparse().is_sparse_gradients
    for kind in (jaxpruner.SET, jaxpruner.RigL):
        updater = kind()
        assert updater.is_sparse_gradients and updater.skip_gradients and not updater.is_debug
        assert updater.drop_fraction_fn(7) == 0.3
        assert updater.eps == 1e-5
    joint = jaxpruner.GlobalMagnitudePruning()
    assert (joint.custom_sparsity_map, joint.use_normalization, joint.sparsity) == (None, True, 0)
    assert jaxpruner.NoPruning().sparsity_distribution_fn is None


def test_every_class_is_one_of_this_packages_and_of_the_modules_base():
    for name in ALGORITHMS:
        kind = jaxpruner.ALGORITHM_REGISTRY[name]
        assert issubclass(kind, jaxpruner.BaseUpdater)
        assert issubclass(kind, pruning.BaseUpdater)


def test_schedules_update_at_multiples_and_have_no_step_before_the_first():
    schedule = jaxpruner.PeriodicSchedule(update_freq=5, update_start_step=3, update_end_step=22)
    due = [step for step in range(30) if schedule.is_mask_update_iter(step)]
    assert due == [5, 10, 15, 20]
    assert schedule.last_update_step == 20
    for each in (schedule, jaxpruner.NoUpdateSchedule(), jaxpruner.OneShotSchedule(4)):
        assert not each.is_mask_update_iter(step=None)
    assert not pruning.PolynomialSchedule(5, 0, 20).is_mask_update_iter(None)
    assert schedule.get_sparsity_at_step({"a": 0.5}, 9) == {"a": 0.5}
    rising = jaxpruner.PolynomialSchedule(update_freq=5, update_start_step=0, update_end_step=20)
    assert isinstance(rising, jaxpruner.PeriodicSchedule)
    target = {"a": 0.5, "b": {"c": None, "d": 0.25}}
    for get in (rising.get_sparsity_at_step, jax.jit(rising.get_sparsity_at_step)):
        assert get(target, 9) == {"a": 0.4375, "b": {"c": None, "d": 0.21875}}
    assert jaxpruner.PolynomialSchedule(5, 0, 20, aligned=True).is_mask_update_iter(20)
    with pytest.raises(ValueError, match="end_step"):
        jaxpruner.PolynomialSchedule(1, update_start_step=3, update_end_step=2)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_types_keep_their_axes_when_copied(copied):
    block, lines = sparsity_types.Block((2, 3), use_avg_pooling=False), sparsity_types.NByM(2, 4)
    for each in (block, lines, block._replace(block_shape=(1, 1)), lines._replace(axis=0)):
        assert copied(each) == each and type(copied(each)) is type(each)
        assert sparsity_types.is_sparsity_type(each)
        assert isinstance(each, jaxpruner.SparsityType)
    assert block.leading and lines.axis == -1
    assert not sparsity_types.is_sparsity_type("nm_2,4")


RNG = np.random.default_rng(0)
CUBE = jnp.asarray(RNG.permutation(48).reshape(2, 6, 4), jnp.float32)


@pytest.mark.parametrize("jitted", [False, True])
def test_n_of_m_lies_along_the_last_axis_of_a_tensor_of_any_rank(jitted):
    for scores in (CUBE, CUBE[0, 0]):
        topk = mask_calculator.get_topk_fn(sparsity_types.NByM(1, 4))
        topk = jax.jit(topk) if jitted else topk
        lines = np.asarray(scores).reshape(-1, 4)
        want = (lines == lines.max(1, keepdims=True)).reshape(scores.shape)
        np.testing.assert_array_equal(topk(scores, 0.75), want)
        np.testing.assert_array_equal(topk(scores, sparsity=0), np.ones(scores.shape))


def test_n_of_m_along_a_chosen_axis_and_its_mistakes():
    topk = mask_calculator.get_topk_fn(sparsity_types.NByM(1, 3, axis=1))
    assert (np.asarray(topk(CUBE, 0.5)).reshape(2, 2, 3, 4).sum(2) == 1).all()
    for axis in (0, -1):
        with pytest.raises(ValueError, match="is not divisible by M"):
            mask_calculator.get_topk_fn(sparsity_types.NByM(1, 3, axis=axis))(CUBE, 0.5)
    too_many = mask_calculator.get_topk_fn(sparsity_types.NByM(4, 2))  # not an error yet
    for function in (too_many, jax.jit(too_many)):
        with pytest.raises(ValueError, match="0 < n ≤ m"):
            function(CUBE, 0.5)
    with pytest.raises(ValueError, match="Not a supported sparsity type"):
        mask_calculator.get_topk_fn("nm_2,4")


def test_both_signatures_of_the_n_of_m_function():
    kind = sparsity_types.NByM(2, 4)
    new = mask_calculator.topk_n_by_m_mask_calculator(CUBE, 0.5, kind)
    np.testing.assert_array_equal(mask_calculator.topk_n_by_m_mask_calculator(CUBE, kind), new)
    np.testing.assert_array_equal(new.sum(-1), np.full((2, 6), 2))
    with pytest.raises(UserError, match="NByM"):
        mask_calculator.topk_n_by_m_mask_calculator(CUBE, 0.5)


@pytest.mark.parametrize("pool", [np.mean, np.max])
@pytest.mark.parametrize("jitted", [False, True])
def test_blocks_lie_in_the_first_two_axes_and_span_the_others(pool, jitted):
    kind = sparsity_types.Block(block_shape=(2, 3), use_avg_pooling=pool is np.mean)
    topk = mask_calculator.get_topk_fn(kind)
    topk = jax.jit(topk) if jitted else topk
    pooled = pool(np.asarray(CUBE).reshape(2, 2, 3, 4), axis=(0, 2, 3))
    mask = topk(CUBE, sparsity=0.5)
    want = np.repeat(pooled == pooled.max(), 3)[None, :, None]
    np.testing.assert_array_equal(mask, np.broadcast_to(want, CUBE.shape))
    same = mask_calculator.topk_block_mask_calculator(CUBE, 0.5, 2, 3, pool is np.mean)
    np.testing.assert_array_equal(same, mask)


def test_blocks_of_a_list_and_at_the_edges():
    kind = sparsity_types.Block((1, 3))
    mask = mask_calculator.get_topk_fn(kind)([1.0, 2.0, 3.0, 9.0, 9.0, 9.0, 5.0, 5.0], sparsity=0.3)
    np.testing.assert_array_equal(mask, [0, 0, 0, 1, 1, 1, 1, 1])
    # Blocks at an edge hold fewer weights; the original's masks then had a wrong shape.
    for shape in ((3, 5), (5, 4, 3)):
        topk = mask_calculator.get_topk_fn(sparsity_types.Block((2, 2)))
        assert topk(jnp.ones(shape), 0.5).shape == shape


def test_channels_and_single_weights():
    scores = jnp.array([[1.0, 5.0, 2.0], [1.0, 0.0, 9.0]])
    channels = mask_calculator.get_topk_fn(sparsity_types.Channel())(scores, 0.4)
    np.testing.assert_array_equal(channels, [[0, 1, 1], [0, 1, 1]])
    first = mask_calculator.get_topk_fn(sparsity_types.Channel(axis=0))(scores, 0.5)
    np.testing.assert_array_equal(first, [[0, 0, 0], [1, 1, 1]])
    for kind in (sparsity_types.Unstructured, sparsity_types.Unstructured()):
        topk = mask_calculator.get_topk_fn(kind)
        np.testing.assert_array_equal(topk(scores, 0.5), [[0, 1, 1], [0, 0, 1]])
        np.testing.assert_array_equal(topk(jnp.ones(4), 0.5), [1, 1, 0, 0])
    # Unlike the others this one knows no sparsity 0, and keeps one weight at least.
    inner = mask_calculator._topk_mask_calculator_internal
    assert inner(scores, 1.0).sum() == 1 and inner(scores, 0.0).sum() == 6


TREE = {"a": np.zeros((2, 4)), "b": {"c": np.zeros((3, 6, 7)), "d": np.ones((7, 4))}}


def test_uniform_takes_trees_of_any_kind_and_lone_arrays():
    assert sparsity_distributions.uniform(TREE, 0.5) == {"a": 0.5, "b": {"c": 0.5, "d": 0.5}}
    assert sparsity_distributions.uniform([np.ones((2, 4)), np.ones(4)], 0.5) == [0.5, None]
    assert sparsity_distributions.uniform(jnp.ones((2, 4)), 0.5) == 0.5
    assert sparsity_distributions.uniform(np.ones(4), 0.5) is None
    kernels = sparsity_distributions.KERNEL_FILTER_FN
    assert sparsity_distributions.uniform(jnp.ones(4), 0.5, filter_fn=kernels) == 0.5
    frozen = sparsity_distributions.uniform(flax.core.freeze(TREE), 0.5)
    assert isinstance(frozen, flax.core.FrozenDict)


@pytest.mark.parametrize("name", ["uniform", "erk"])
def test_maps_may_list_leaves_of_other_networks(name):
    distribution = getattr(sparsity_distributions, name)
    alternatives = {("b", "d"): 0.1, ("Dense_9", "kernel"): 0.3, "elsewhere/kernel": 0.2}
    assert distribution(TREE, 0.5, custom_sparsity_map=alternatives)["b"]["d"] == 0.1
    with pytest.raises(UserError, match="Dense_9.*known paths: a, b/c, b/d"):
        distribution(TREE, 0.5, custom_sparsity_map={("Dense_9", "kernel"): 0.3})
    joint = jaxpruner.GlobalMagnitudePruning(custom_sparsity_map=alternatives, sparsity=0.5)
    params = jax.tree.map(lambda leaf: jnp.asarray(RNG.normal(size=leaf.shape)), TREE)
    assert joint.instant_sparsify(params)[1]["b"]["d"].sum() == 25
    # The package's own functions take every unknown path for a slip of the pen.
    with pytest.raises(UserError, match="Dense_9"):
        getattr(pruning.sparsity_distributions, name)(TREE, 0.5, custom_sparsity_map=alternatives)


def test_erk_by_keyword_and_of_a_lone_array():
    found = sparsity_distributions.erk(param_tree=TREE, sparsity=0.5)
    assert found["a"] == found["b"]["d"] == 0.0
    # Half of all 162 weights, and the two small leaves keep theirs.
    assert found["b"]["c"] == pytest.approx((0.5 * 162) / 126)
    for array in (jnp.ones((2, 2)), np.ones((2, 2))):
        with pytest.raises(ValueError, match="Single parameter is provided"):
            sparsity_distributions.erk(array, 0.5)


def test_erk_of_all_leaves_whatever_the_filter_says():
    params = {"bias": jnp.ones(8), "kernel": jnp.ones((8, 8))}
    assert sparsity_distributions.erk(params, 0.5)["bias"] is None
    found = sparsity_distributions.erk(params, 0.5, include_excluded_params=True)
    # The bias has density 1, so that the kernel makes up for its 4 zeros.
    assert found == {"bias": 0.0, "kernel": pytest.approx(1 - (32 - 4) / 64)}


SHAPES = {"a": (2, 4), "b": (3, 6), "c": (2, 4, 6)}


@pytest.mark.parametrize(
    ("sparsity", "include_kernel", "power", "want"),
    [
        (0.5, True, 1.0, (0.0, 0.3077, 0.6552)),
        (0.5, False, 1.0, (0.2115, 0.4744, 0.5620)),
        (0.8, True, 1.0, (0.5568, 0.7045, 0.8522)),
        (0.5, True, 2.0, (0.0, 0.0337, 0.7581)),
    ],
)
def test_erdos_renyi_sparsities_of_shapes(sparsity, include_kernel, power, want):
    found = sparsity_distributions.get_sparsities_erdos_renyi(
        SHAPES, sparsity, None, include_kernel, power
    )
    assert list(found) == list(SHAPES)
    np.testing.assert_allclose(list(found.values()), want, atol=0.02)


def test_erdos_renyi_sparsities_with_a_map_and_their_mistakes():
    renyi = sparsity_distributions.get_sparsities_erdos_renyi
    assert renyi({"a": (2, 4)}, 0.5) == {"a": 0.5}
    found = renyi({"a": (2, 4), "b": (3, 7, 6)}, 0.1, {"a": 0.7, "c": 0.1})
    assert set(found) == {"a", "b"} and found["a"] == 0.7
    assert renyi({"a": (2, 4)}, 0.5, {"a": 0.7}) == {"a": 0.7}
    for sparsity in (-1, 1.5, None):
        with pytest.raises(ValueError, match="Default sparsity"):
            renyi({"a": (1, 1)}, sparsity)
    with pytest.raises(ValueError, match="Variable shape dictionary"):
        renyi({}, 0.5)
    assert sparsity_distributions.get_n_zeros(7, 0.5) == 3


def test_summaries_name_leaves_that_are_none():
    tree = {"a": jnp.ones((2, 2)), "b": {"c": None, "d": jnp.array([1.0, 0.0]), "e": jnp.zeros(4)}}
    total = {"_total_sparsity": 0.5, "_nparams": 10.0, "_nparams_nnz": 5.0}
    assert utils.summarize_sparsity(tree, only_total_sparsity=True) == total
    single = {"a": 0.0, "b/c": None, "b/d": 0.5, "b/e": 1.0}
    assert utils.summarize_sparsity(tree) == total | single
    assert set(utils.summarize_sparsity([jnp.ones(2), None])) == {"0", "1", *total}
    other = {"a": jnp.ones((2, 2)), "b": {"c": None, "d": jnp.zeros(2), "e": jnp.ones(4)}}
    total = {"_total_intersection": 0.8}
    shares = {"a": 1.0, "b/c": None, "b/d": 0.0, "b/e": 0.0}
    assert utils.summarize_intersection(tree, other) == total | shares
    assert utils.summarize_intersection(tree, other, only_total_intersection=True) == total
    assert jaxpruner.summarize_sparsity is utils.summarize_sparsity


def config_of(**options):
    config = {"algorithm": "magnitude", "dist_type": "uniform", "sparsity": 0.5} | options
    return ml_collections.ConfigDict(config)


def test_an_updater_from_a_config():
    config = config_of(
        dist_type="erk", update_freq=10, update_start_step=200, update_end_step=1000, sparsity=0.8
    )
    updater = jaxpruner.create_updater_from_config(config)
    assert type(updater) is jaxpruner.MagnitudePruning
    steps = jaxpruner.PolynomialSchedule(10, 200, 1000)
    assert updater.scheduler == steps and not updater.scheduler.aligned
    parameters = inspect.signature(updater.sparsity_distribution_fn).parameters
    erk = ["param_tree", "sparsity", "filter_fn", "custom_sparsity_map"]
    assert list(parameters) == [*erk, "include_excluded_params"]
    assert parameters["sparsity"].default == 0.8
    none = jaxpruner.create_updater_from_config(
        ml_collections.ConfigDict({"algorithm": "no_prune"})
    )
    assert type(none) is jaxpruner.NoPruning
    still = jaxpruner.create_updater_from_config(config_of())
    assert type(still.scheduler) is jaxpruner.NoUpdateSchedule
    once = jaxpruner.create_updater_from_config(config_of(update_start_step=3, update_end_step=3))
    assert once.scheduler == jaxpruner.OneShotSchedule(3)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("nm_2,4", sparsity_types.NByM(2, 4)),
        ("block_4,2", sparsity_types.Block((4, 2))),
        ("channel_0", sparsity_types.Channel(0)),
        (sparsity_types.NByM(1, 4, 0), sparsity_types.NByM(1, 4, 0)),
        (sparsity_types.Block((4, 2), False), sparsity_types.Block((4, 2), False)),
    ],
)
def test_types_in_a_config(text, kind):
    found = jaxpruner.create_updater_from_config(config_of(sparsity_type=text)).sparsity_type
    assert found == kind and type(found) is type(kind)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dist_type": "no_function"}, "dist_type: no_function.*uniform, erk"),
        (
            {"algorithm": "no_algorithm"},
            r"no_algorithm.*magnitude.*jaxpruner.all_algorithm_names\(\)",
        ),
        ({"sparsity_type": "no_type"}, "Sparsity type no_type.*nm_2,4"),
        ({"no_key": 1}, "unknown key 'no_key'"),
    ],
)
def test_mistakes_in_a_config(options, text):
    with pytest.raises(ValueError, match=text):
        jaxpruner.create_updater_from_config(config_of(**options))


def test_a_wrong_distribution_is_told_before_a_sparsity_is_missed():
    config = ml_collections.ConfigDict({"algorithm": "magnitude", "dist_type": "nothing"})
    with pytest.raises(ValueError, match="dist_type:"):
        jaxpruner.create_updater_from_config(config)


def test_the_registry_is_the_originals_and_knows_what_users_add():
    assert list(jaxpruner.ALGORITHM_REGISTRY)[:11] == ALGORITHMS
    assert jaxpruner.api.ALGORITHMS[:11] == tuple(ALGORITHMS)

    class Mine(jaxpruner.MagnitudePruning):
        pass

    try:
        jaxpruner.ALGORITHM_REGISTRY["mine"] = Mine
        assert "mine" in jaxpruner.all_algorithm_names()
        assert type(jaxpruner.create_updater_from_config(config_of(algorithm="mine"))) is Mine
        assert registry.find_algorithm("mine") is Mine  # settings of runs know it, too
    finally:
        del jaxpruner.ALGORITHM_REGISTRY["mine"]
    assert "mine" not in jaxpruner.all_algorithm_names()


def test_a_name_of_the_originals_may_be_replaced_and_settings_keep_theirs():
    class Mine(jaxpruner.MagnitudePruning):
        pass

    before = jaxpruner.ALGORITHM_REGISTRY["magnitude"]
    try:
        jaxpruner.register_algorithm("magnitude", Mine)
        assert type(jaxpruner.create_updater_from_config(config_of())) is Mine
        assert registry.find_algorithm("magnitude") is pruning.MagnitudePruning
    finally:
        jaxpruner.register_algorithm("magnitude", before)
