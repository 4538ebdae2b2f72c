"""Updaters of jaxpruner itself, where it is installed, and what is said where it is not."""

import copy
import dataclasses
import functools
import re
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bap_jax
from bap_jax.errors import UserError
from bap_jax.pruning import SparseState, check_applied, sparsity_distributions
from bap_jax.pruning.from_jaxpruner import from_jaxpruner
from tests.pruning import golden_jaxpruner as golden

SMALL = {"a": {"kernel": (6, 8), "bias": (8,)}, "b": {"kernel": (8, 4), "bias": (4,)}}
HALF = functools.partial(sparsity_distributions.uniform, sparsity=0.5)


@pytest.fixture
def library():
    """jaxpruner; afterwards its modules and jax must be as they were."""
    found = pytest.importorskip("jaxpruner")
    before = hasattr(jax, "tree_map")
    yield found
    assert hasattr(jax, "tree_map") == before
    for name, module in sys.modules.items():
        if name.split(".")[0] == "jaxpruner" and hasattr(module, "jax"):
            assert module.jax is jax, name


@pytest.fixture
def absent(monkeypatch):
    """As if jaxpruner were not installed."""
    monkeypatch.setitem(sys.modules, "jaxpruner", None)


def small_params():
    rng = np.random.default_rng(0)
    return {
        layer: {
            name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()
        }
        for layer, shapes in SMALL.items()
    }


def small_steps(updater, params, tx, steps=6):
    """Parameters and state after some steps whose gradients tell weights apart."""
    tx = updater.wrap_optax(tx)
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        seen = updater.pre_forward_update(params, state)
        grads = jax.tree.map(lambda leaf: jnp.cos(3 * leaf) * 0.3, seen)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return updater.post_gradient_update(params, state), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def test_says_what_is_not_installed(absent):
    where = "git clone https://github.com/google-research/jaxpruner"
    with pytest.raises(UserError, match=rf"not installed.*same names.*{where}"):
        from_jaxpruner(object())


def test_only_one_file_imports_it_and_only_when_called():
    indents = {}
    for path in Path(bap_jax.__file__).parent.rglob("*.py"):
        text = path.read_text()
        if found := re.findall(r"^( *)(?:import|from) jaxpruner\b", text, re.MULTILINE):
            indents[path.name] = found
    assert list(indents) == ["from_jaxpruner.py"]
    assert "" not in indents["from_jaxpruner.py"]


@pytest.mark.parametrize("other", [3, "magnitude", HALF])
def test_names_what_is_no_updater(library, other):
    with pytest.raises(UserError, match=type(other).__name__):
        from_jaxpruner(other)
    with pytest.raises(UserError, match="the class MagnitudePruning"):
        from_jaxpruner(library.MagnitudePruning)


@pytest.mark.parametrize("case", golden.tree_cases("mask"))
def test_golden_masks(library, case):
    updater = from_jaxpruner(golden.tree_updater(library, case))
    params = golden.params_of(case)
    masked, masks = updater.instant_sparsify(params)
    golden.assert_same_leaves(masks, f"{case}/mask")
    golden.assert_same_leaves(masked, f"{case}/masked")


@pytest.mark.parametrize("case", golden.tree_cases("packed_mask"))
def test_golden_packed_masks(library, case):
    updater = from_jaxpruner(golden.tree_updater(library, case, use_packed_masks=True))
    params = golden.params_of(case)
    _, packed = updater.instant_sparsify(params)
    golden.assert_same_leaves(packed, f"{case}/packed_mask")
    state = updater.init_state(params)._replace(masks=packed)
    golden.assert_same_leaves(updater.unpacked_masks(state, params), f"{case}/mask")


@pytest.mark.parametrize("case", golden.error_cases())
def test_errors_are_its_own_and_leave_nothing_behind(library, case):
    updater = from_jaxpruner(golden.tree_updater(library, case))
    with pytest.raises(Exception) as caught:
        updater.instant_sparsify(golden.params_of(case))
    assert f"{type(caught.value).__name__}: {caught.value}" == golden.ERRORS[case]


@pytest.mark.parametrize("case", golden.train_cases())
def test_golden_trainings(library, case):
    golden.assert_trains_alike(from_jaxpruner(golden.train_updater(library, case)), case)


@pytest.mark.parametrize("tag", golden.schedule_tags())
def test_golden_schedules(library, tag):
    updater = library.MagnitudePruning(scheduler=golden.schedule(library, tag))
    schedule, stored = from_jaxpruner(updater).scheduler, golden.tree(f"schedule/{tag}")
    target = {"w": golden.target(tag, golden.TRAIN_SPARSITY), "b": None}
    for i, step in enumerate(map(int, stored["step"])):
        assert bool(schedule.is_mask_update_iter(step)) == bool(stored["is_update"][i])
        found = schedule.get_sparsity_at_step(target, step)
        np.testing.assert_allclose(found["w"], stored["sparsity_eager"][i], rtol=0, atol=2e-7)
        assert found["b"] is None
    due = [int(step) for step in stored["step"] if schedule.is_mask_update_iter(int(step))]
    assert schedule.last_update_step == max(due, default=-1)


def all_of(library, **options):
    """An updater of each algorithm that needs no gradients at the start."""
    scheduler = library.PeriodicSchedule(2, 0, 4)
    for name, algorithm in library.ALGORITHM_REGISTRY.items():
        if name.startswith("global"):
            yield algorithm(scheduler=scheduler, sparsity=0.5, **options)
        elif name != "no_prune":
            yield algorithm(scheduler=scheduler, sparsity_distribution_fn=HALF, **options)


def test_every_algorithm_trains_with_unpruned_leaves(library):
    params = small_params()
    for original in all_of(library):
        updater = from_jaxpruner(original)
        after, state = small_steps(updater, params, optax.adam(0.01))
        assert all(hasattr(state, field) for field in SparseState._fields)
        assert int(state.count) == 6
        check_applied(after, state)
        masks = updater.unpacked_masks(state, params)
        if hasattr(updater, "present_masks"):
            masks = updater.present_masks(after, state)
        kept = [int(mask.sum()) for mask in jax.tree.leaves(masks)]
        assert sum(kept) == 40, original
        assert masks["a"]["bias"] is None


def test_removed_weights_are_zero_without_a_call_and_extra_arguments_arrive(library):
    seen = []

    def update(updates, state, params=None, *, value):
        seen.append(value)
        return jax.tree.map(lambda leaf: -0.1 * leaf, updates), state

    inner = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    scheduler = library.OneShotSchedule(1)
    updater = from_jaxpruner(
        library.MagnitudePruning(scheduler=scheduler, sparsity_distribution_fn=HALF)
    )
    params, tx = small_params(), updater.wrap_optax(inner)
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update(params, state, params, value=7.0)
        params = optax.apply_updates(params, updates)
    assert seen == [7.0] * 3
    assert int((params["a"]["kernel"] == 0).sum()) == 24
    check_applied(params, state)


@pytest.mark.parametrize("name", ["RigL", "SET"])
def test_exchanging_restarts_moments_as_jaxpruner_does(library, name):
    scheduler = library.PeriodicSchedule(3, 0, None)
    original = getattr(library, name)(scheduler=scheduler, sparsity_distribution_fn=HALF)
    updater, params = from_jaxpruner(original), small_params()
    assert not updater.changes_masks_only() and updater.needs_gradients
    tx = updater.wrap_optax(optax.adam(0.1))
    state, update = tx.init(params), jax.jit(tx.update)
    grads = jax.tree.map(lambda leaf: jnp.cos(3 * leaf), params)
    for _ in range(3):
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    old, before = state.masks["a"]["kernel"], state.inner_state[0]
    _, state = update(grads, state, params)
    grown = (old == 0) & (state.masks["a"]["kernel"] == 1)
    assert int(grown.sum()) > 0
    want = jnp.where(grown, 0, before.nu["a"]["kernel"])
    np.testing.assert_allclose(state.inner_state[0].nu["a"]["kernel"], want, rtol=1e-6)
    np.testing.assert_array_equal(state.inner_state[0].nu["a"]["bias"], before.nu["a"]["bias"])
    assert int(state.masks["a"]["kernel"].sum()) == int(old.sum())


@pytest.mark.parametrize("name", ["SteMagnitudePruning", "SteRandomPruning"])
def test_straight_through_masks_what_the_network_sees(library, name):
    updater = from_jaxpruner(getattr(library, name)(sparsity_distribution_fn=HALF))
    params = small_params()
    state = updater.wrap_optax(optax.sgd(0.1)).init(params)
    seen = updater.pre_forward_update(params, (optax.EmptyState(), state))
    masks = updater.present_masks(params, state)
    np.testing.assert_array_equal(seen["a"]["kernel"] != 0, masks["a"]["kernel"])
    other = state._replace(masks=jax.tree.map(jnp.zeros_like, masks))
    jax.tree.map(np.testing.assert_array_equal, updater.present_masks(params, other), masks)
    assert not updater.zeroes_removed() and updater.changes_masks_only()
    assert not hasattr(from_jaxpruner(library.MagnitudePruning()), "present_masks")


def own_updater(library, scores=None):
    """A user's own algorithm, written with a jax of old in this module."""

    @dataclasses.dataclass
    class Smallest(library.MagnitudePruning):
        def calculate_scores(self, params, sparse_state=None, grads=None):
            if scores:
                scores()
            return jax.tree_map(lambda leaf: -jnp.abs(leaf), params)

        def update_state(self, sparse_state, params, grads):
            new = super().update_state(sparse_state, params, grads)
            return library.SparseState(*new)

    scheduler = library.OneShotSchedule(0)
    return Smallest(scheduler=scheduler, sparsity_distribution_fn=HALF)


def test_a_users_own_updater(library):
    updater, params = from_jaxpruner(own_updater(library)), small_params()
    _, masks = updater.instant_sparsify(params)
    kernel = jnp.abs(params["a"]["kernel"])
    assert float(kernel[masks["a"]["kernel"] == 1].max()) <= float(
        kernel[masks["a"]["kernel"] == 0].min()
    )
    state = SparseState(*updater.init_state(params))
    state = jax.jit(updater.update_state)(state, params, params)
    assert type(state) is SparseState
    np.testing.assert_array_equal(state.masks["a"]["kernel"], masks["a"]["kernel"])
    found = updater.update_masks(state, params, params)
    np.testing.assert_array_equal(found["a"]["kernel"], masks["a"]["kernel"])
    assert "Smallest" in repr(copy.deepcopy(updater)) and updater.use_packed_masks is False


def test_names_are_restored_after_an_exception_and_nested(library):
    inner = from_jaxpruner(own_updater(library))

    def scores():
        inner.calculate_scores(small_params())
        assert jax is not sys.modules["jax"] and jax.tree_map
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        from_jaxpruner(own_updater(library, scores)).instant_sparsify(small_params())
    assert jax is sys.modules["jax"]


def test_threads_do_not_take_names_from_each_other(library):
    started, ended = threading.Event(), threading.Event()
    found = []

    def scores():
        started.set()
        assert ended.wait(10)

    def work():
        found.append(from_jaxpruner(own_updater(library, scores)).instant_sparsify(small_params()))

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(10)
    from_jaxpruner(own_updater(library)).calculate_scores(small_params())
    ended.set()
    thread.join()
    assert found and jax is sys.modules["jax"]


def test_what_gradients_and_zeros_are_needed(library):
    updaters = map(from_jaxpruner, all_of(library))
    needs = {type(one.original).__name__: one.needs_gradients for one in updaters}
    without = {"MagnitudePruning", "RandomPruning", "GlobalMagnitudePruning", "StaticRandomSparse"}
    without |= {"SteMagnitudePruning", "SteRandomPruning"}
    assert {name for name, value in needs.items() if not value} == without
    none = from_jaxpruner(library.NoPruning())
    assert none.zeroes_removed() and none.may_regrow() and none.scheduler.last_update_step == -1
    _, state = small_steps(none, small_params(), optax.sgd(0.1), steps=1)
    assert jax.tree.leaves(state.masks) == []
