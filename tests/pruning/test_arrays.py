"""Updaters taken apart: with their arrays they do what they do alone, one by one and batched."""

import functools
import itertools
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import pruning, training
from bap_jax.errors import UserError
from bap_jax.pruning import SparseState, registry, wrapping
from bap_jax.pruning.arrays import UpdaterArrays, updater_arrays, with_arrays
from bap_jax.training import pruner_settings
from bap_jax.training.settings import PruningSettings
from bap_jax.types import ChannelGroup
from tests.pruning import updaters

PARAMS = updaters.layers(updaters.leaves())
PRUNABLE = {"a": {"bias": False, "kernel": True}, "b": {"bias": False, "kernel": True}}
GROUPS = [
    ChannelGroup("hidden", ("a/kernel",), vectors=("a/bias",)),
    ChannelGroup("next", ("b/kernel",)),
]
LAST, SPARSITIES = 3, (0.5, 0.9, 0.95, 0.98)
ONCE = pruning.OneShotSchedule(0)
STEPS = range(LAST + 2)  # one beyond the schedule's end
SETTINGS = functools.partial(PruningSettings, epochs=LAST)


def build(algorithm, sparsity=0.6, seed=3, **options):
    """An updater as a training step has it; masks from data are random ones."""
    settings = SETTINGS(algorithm=algorithm, sparsity=sparsity, **options)
    masks = None
    if registry.updater_class(algorithm).needs_data:
        draw = np.random.default_rng(seed)
        masks = jax.tree.map(
            lambda leaf, chosen: (draw.random(leaf.shape) > sparsity) * 1 if chosen else None,
            PARAMS,
            PRUNABLE,
        )
    return training.build_pruner(settings, PRUNABLE, masks=masks, groups=GROUPS, seed=seed).updater


def combinations():
    """Every algorithm with every distribution, counting rule and schedule that it allows."""
    choices = itertools.product(
        pruning.algorithm_names(),
        ("uniform", "erk"),
        ("ceil", "round"),
        pruner_settings.SCHEDULES,
    )
    for algorithm, distribution, counting, schedule in choices:
        options = {"distribution": distribution, "counting": counting, "schedule": schedule}
        try:
            pruner_settings.check_pruning(SETTINGS(algorithm=algorithm, **options))
        except UserError:
            continue
        plain = schedule in ("gradual", "none") and (distribution, counting) != ("erk", "round")
        marks = () if plain else pytest.mark.slow
        name = "-".join([algorithm, *options.values()])
        yield pytest.param(algorithm, options, id=name, marks=marks)


def weights(step):
    return jax.tree.map(lambda leaf: jnp.roll(leaf, step) * (1 + jnp.cos(leaf + step)), PARAMS)


def stack(trees):
    return jax.tree.map(lambda *rows: jnp.stack(rows), *trees)


WEIGHTS = [weights(step) for step in STEPS]


def first_state(updater):
    """As a training step holds it: target sparsities are float32 arrays."""
    state = updater.init_state(PARAMS)
    return state._replace(target_sparsities=as_float32(state.target_sparsities))


def as_float32(targets):
    return jax.tree.map(lambda target: jnp.asarray(target, jnp.float32), targets)


def masks_along(updater):
    """Masks after the start and after each step, one step after another."""
    state = first_state(updater)
    found = [state.masks]
    for step, params in enumerate(WEIGHTS):
        state = state._replace(count=jnp.int32(step))
        found.append(new_masks(updater, state, params))
        state = state._replace(masks=updater.update_state(state, params, params).masks)
    return found


def scanned_masks(updater):
    """`masks_along` as one loop, the start apart."""
    state = first_state(updater)

    def step(state, now):
        count, params = now
        state = state._replace(count=count)
        new = new_masks(updater, state, params)
        return state._replace(masks=updater.update_state(state, params, params).masks), new

    return state.masks, jax.lax.scan(step, state, (jnp.arange(len(STEPS)), stack(WEIGHTS)))[1]


def new_masks(updater, state, params):
    if isinstance(updater, pruning.NoPruning):
        return state.masks
    return updater.update_masks(state, params, params)


def assert_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        assert jnp.array_equal(one, other)


@pytest.mark.parametrize(("algorithm", "options"), [*combinations()])
def test_with_its_own_arrays_an_updater_does_what_it_does_alone(algorithm, options):
    updater = build(algorithm, **options)
    copy = with_arrays(updater, updater_arrays(updater, PARAMS))
    assert copy is not updater
    targets = first_state(copy).target_sparsities
    assert_equal(targets, as_float32(updater.init_state(PARAMS).target_sparsities))
    assert_equal(masks_along(copy), masks_along(updater))


BATCHED = [
    ("magnitude", {"distribution": "erk"}),
    ("set", {"counting": "round"}),
    *((name, {}) for name in ("global_magnitude", "channels", "snip")),
]
MORE = [
    ("magnitude", {"schedule": "polynomial"}),
    ("random", {"distribution": "erk", "counting": "round"}),
    *((name, {}) for name in ("static_sparse", "synflow", "fairgrape", "no_prune")),
    ("magnitude", {"counting": "round"}),
    ("static_sparse", {"counting": "round"}),
    ("channels", {"counting": "round", "schedule": "polynomial"}),
    *(
        (name, {})
        for name in ("saliency", "rigl", "magnitude_ste", "random_ste", "global_saliency")
    ),
]


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [*BATCHED, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)],
)
def test_members_of_one_program_prune_as_their_updaters_do_alone(algorithm, options):
    members = [build(algorithm, s, seed, **options) for seed, s in enumerate(SPARSITIES)]
    arrays = [updater_arrays(member, PARAMS) for member in members]
    run = jax.jit(jax.vmap(lambda arrays: scanned_masks(with_arrays(members[0], arrays))))
    first, later = run(stack(arrays))
    for i, member in enumerate(members):
        alone = masks_along(member)
        assert_equal(jax.tree.map(lambda leaf, i=i: leaf[i], first), alone[0])
        assert_equal(jax.tree.map(lambda leaf, i=i: leaf[i], later), stack(alone[1:]))


@pytest.mark.parametrize("counting", ["ceil", "round"])
@pytest.mark.parametrize(("kind", "units"), [("nm_1,2", 0), ("block_2,3", 3 * 3), ("channel", 8)])
def test_units_of_every_sparsity_type(kind, units, counting):
    updater = build("magnitude", 0.6, type=kind, counting=counting)
    arrays = updater_arrays(updater, PARAMS)
    assert_equal(masks_along(with_arrays(updater, arrays)), masks_along(updater))
    if counting == "round" or not units:
        assert arrays.kept is None
    else:
        assert arrays.kept[:, -1].tolist() == [units - math.ceil(0.6 * units)] * 2


# Products in double precision pass a whole number that those in single precision do not.
PASSING = {0.07: 8, 0.14: 15, 0.28: 29, 0.55: 56}


@pytest.mark.parametrize("name", ["magnitude", "global_magnitude", "static_sparse"])
def test_batched_members_count_in_double_precision(name):
    for sparsity, removed in PASSING.items():
        single = np.ceil(np.float32(sparsity) * np.float32(100))
        assert single == removed - 1 == math.ceil(sparsity * 100) - 1
    params = {"w": jnp.linspace(-1.0, 2.0, 100).reshape(10, 10)}
    members = [updaters.make(name, s, counting="ceil", scheduler=ONCE) for s in PASSING]
    arrays = stack([updater_arrays(member, params) for member in members])

    def removed(arrays):
        updater = with_arrays(members[0], arrays)
        state = updater.init_state(params)
        masks = updater.update_state(state, params, params).masks
        _, at_once = updater.instant_sparsify(params)
        return [jnp.sum(one["w"] == 0) for one in (masks, at_once)]

    for found in jax.jit(jax.vmap(removed))(arrays):
        assert found.tolist() == list(PASSING.values())


def test_members_train_with_keys_and_sparsities_of_their_own(monkeypatch):
    """Through the wrapped optimiser, in which masks are formed anew for one member at a time."""
    members = [updaters.make("random", s, rng_seed=seed) for seed, s in enumerate(SPARSITIES[:2])]
    arrays = [updater_arrays(member, PARAMS) for member in members]

    def train(arrays):
        updater = with_arrays(members[0], arrays)
        tx = updater.wrap_optax(updaters.optimizer())
        state = updaters.as_arrays(tx.init(PARAMS))
        return updaters.scan(updater, tx, PARAMS, state, steps=4)[1].masks

    together = jax.jit(jax.vmap(train))(stack(arrays))
    monkeypatch.setattr(wrapping, "cond_per_member", updaters.plain_choice)
    alone = []
    for member in members:
        tx = member.wrap_optax(updaters.optimizer())
        alone.append(updaters.loop(member, tx, PARAMS, steps=4)[1].masks)
    assert_equal(together, stack(alone))


def test_arrays_of_members_have_one_structure_and_need_shapes_only():
    shapes = jax.eval_shape(lambda: PARAMS)
    for name in pruning.algorithm_names():
        options = {"distribution": "erk"} if name in ("magnitude", "set") else {}
        found = [updater_arrays(build(name, s, **options), shapes) for s in (0.0, 0.3, 0.98)]
        assert len({jax.tree.structure(arrays) for arrays in found}) == 1
        assert_equal(found[1], updater_arrays(build(name, 0.3, **options), PARAMS))


def test_what_the_arrays_hold():
    arrays = updater_arrays(build("magnitude", 0.5), PARAMS)
    schedule = pruning.GradualSchedule(LAST)
    kept = [48 - math.ceil(s * 48) for s in schedule.tabulate(0.5)]
    np.testing.assert_array_equal(arrays.kept, [kept, kept])
    assert arrays.kept.dtype == np.int32
    assert arrays.targets["a"] == {"bias": None, "kernel": np.float32(0.5)}
    assert arrays.masks is None
    together = updater_arrays(build("global_magnitude", 0.5), PARAMS)
    assert together.targets == np.float32(0.5)
    assert together.kept[:, -1].tolist() == [48]
    channels = updater_arrays(build("channels", 0.98), PARAMS)
    assert channels.kept[:, -1].tolist() == [1, 1]
    assert updater_arrays(build("magnitude", schedule="polynomial"), PARAMS).kept is None
    assert updater_arrays(build("magnitude", counting="round"), PARAMS).kept is None


def test_leaves_with_a_sparsity_of_their_own_keep_it():
    own = {"custom_sparsity_map": {"b/kernel": 0.25}, "counting": "ceil", "scheduler": ONCE}
    members = [updaters.make("global_magnitude", s, **own) for s in (0.5, 0.75)]
    arrays = stack([updater_arrays(member, PARAMS) for member in members])

    def kept(arrays):
        updater = with_arrays(members[0], arrays)
        masks = updater.update_masks(updater.init_state(PARAMS), PARAMS, None)
        return jax.tree.map(jnp.count_nonzero, masks)

    found = jax.vmap(kept)(arrays)
    assert found["a"]["kernel"].tolist() == [24, 12]
    assert found["b"]["kernel"].tolist() == [36, 36]


class OwnScores(pruning.BaseUpdater):
    def calculate_scores(self, params, sparse_state=None, grads=None):
        return jax.tree.map(jnp.square, params)


class OwnUpdate(pruning.MagnitudePruning):
    def update_state(self, sparse_state: SparseState, params, grads):
        return super().update_state(sparse_state, params, grads)


def in_arrays(params):
    return jax.tree.map(lambda leaf: jnp.float32(0.5) if leaf.ndim > 1 else None, params)


@pytest.mark.parametrize(
    "updater",
    [
        OwnUpdate(),
        pruning.MagnitudePruning(topk_fn=pruning.mask_calculator.topk_mask_calculator),
        pruning.MagnitudePruning(sparsity_distribution_fn=in_arrays),
        SimpleNamespace(scheduler=ONCE, rng_seed=1),
    ],
)
def test_what_cannot_be_taken_apart_stays_whole(updater):
    arrays = updater_arrays(updater, PARAMS)
    assert arrays == UpdaterArrays()
    assert with_arrays(updater, arrays) is updater


def test_scores_of_ones_own_may_be_batched():
    half = functools.partial(pruning.sparsity_distributions.uniform, sparsity=0.5)
    updater = OwnScores(sparsity_distribution_fn=half, scheduler=ONCE)
    copy = with_arrays(updater, updater_arrays(updater, PARAMS))
    assert_equal(masks_along(copy), masks_along(updater))


def test_a_copy_leaves_the_updater_as_it_was():
    updater = build("global_magnitude", 0.5, seed=1)
    before = dict(vars(updater))
    with_arrays(updater, updater_arrays(build("global_magnitude", 0.9, seed=2), PARAMS))
    assert vars(updater) == before
