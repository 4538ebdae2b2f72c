"""Files that users wrote for jaxpruner (`for_jaxpruner/`): in their loops and in runs of ours."""

import contextlib
import dataclasses
import functools

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from bap_jax import lagrangian, pruning, training
from bap_jax.constraints import unconstrained
from bap_jax.errors import UserError
from bap_jax.pruning import jaxpruner, registry
from bap_jax.training.settings import DualSettings, PruningSettings
from tests.pruning.for_jaxpruner import curvature, gradual_nm, phases
from tests.training.tiny import tiny

PARAMS = {"w": jnp.array([[0.1, 0.9], [0.2, 0.5]])}
GRADS = {"w": jnp.array([[5.0, 1.0], [3.0, 0.5]])}


@pytest.fixture
def registered():
    """Registers what the files do, and forgets it."""
    before, names = set(registry.algorithm_names()), jaxpruner.ALGORITHMS
    yield
    for name in set(registry.algorithm_names()) - before:
        registry.unregister_algorithm(name)
    jaxpruner.ALGORITHMS = names


def from_config(algorithm, **options):
    config = {"algorithm": algorithm, "dist_type": "uniform", "sparsity": 0.5} | options
    return jaxpruner.create_updater_from_config(ml_collections.ConfigDict(config))


def steps(updater, inner, number, params=PARAMS):
    """The state after each of some steps."""
    tx = updater.wrap_optax(inner)
    state, update = tx.init(params), jax.jit(tx.update)
    for _ in range(number):
        updates, state = update(GRADS, state, params)
        params = updater.post_gradient_update(optax.apply_updates(params, updates), state)
        yield state


@pytest.mark.parametrize("options", [{}, {"use_packed_masks": True}])
def test_phases_in_a_loop_of_their_own(registered, options):
    phases.add_to_jaxpruner()
    assert "phases" in jaxpruner.ALGORITHMS
    updater = from_config(
        "phases", dense_first=1, stay_sparse=5, sparse_steps=1, dense_steps=1, **options
    )
    phases.SEEN.clear()
    kept = [
        float(jnp.mean(updater.unpacked_masks(state, PARAMS)["w"]))
        for state in steps(updater, optax.adamw(1e-3), 7)
    ]
    assert kept == [1.0, 0.5, 1.0, 0.5, 1.0, 0.5, 0.5]
    jax.effects_barrier()
    assert list(range(7)) == phases.SEEN  # called once a step, at every step


def test_phases_may_reset_the_optimiser(registered):
    phases.add_to_jaxpruner()
    updater = from_config("phases", stay_sparse=9, forget_moments=True, skip_gradients=True)
    states = list(steps(updater, optax.adam(1e-3), 2))
    assert not any(leaf.any() for leaf in jax.tree.leaves(states[-1].inner_state[0].mu))


def test_gradual_n_of_m_in_a_loop_of_its_own(registered):
    gradual_nm.add_to_jaxpruner()
    updater = from_config(
        "gradual_nm",
        sparsity_type="nm_1,4",
        sparsity=0.75,
        update_freq=1,
        update_start_step=0,
        update_end_step=4,
    )
    assert isinstance(updater.topk_fn, functools.partial)
    params = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(6, 8)), jnp.float32)}
    grads = jax.tree.map(jnp.zeros_like, params)
    tx = updater.wrap_optax(optax.sgd(0.1))
    state, kept = tx.init(params), []
    for _ in range(4):
        _, state = tx.update(grads, state, params)
        kept.append(int(state.masks["w"].sum()))
    assert kept == sorted(kept, reverse=True) and kept[0] > kept[-1] == 12
    np.testing.assert_array_equal(state.masks["w"].reshape(6, 2, 4).sum(2), np.ones((6, 2)))


@pytest.mark.parametrize("reset", [False, True])
def test_importance_from_the_optimiser_in_a_loop_of_its_own(registered, reset):
    curvature.add_to_jaxpruner()
    updater = from_config(
        "curvature", reset_adam=reset, skip_gradients=True, update_start_step=1, update_end_step=1
    )
    states = list(steps(updater, optax.adamw(1e-3), 2))
    nu = curvature.adam_state(states[0].inner_state).nu["w"]
    scores = updater.calculate_scores(params=PARAMS, sparse_state=states[0])["w"]
    np.testing.assert_allclose(scores, PARAMS["w"] ** 2 * nu)
    # θ² g²: (.25, .81, .36, .0625); magnitudes alone would keep .5 and remove .2.
    np.testing.assert_array_equal(states[1].masks["w"], [[0, 1], [1, 0]])
    after = curvature.adam_state(states[1].inner_state)
    assert (not after.nu["w"].any()) == reset
    with pytest.raises(ValueError, match="no Adam here"):
        list(steps(updater, optax.sgd(0.1), 2))


@contextlib.contextmanager
def trainer_of(kind, inner=None, schedule="auto", shape="unstructured", prunable=("first", "last")):
    """A trainer of ours whose algorithm is a class of a user's file, registered as they do."""
    jaxpruner.register_algorithm("mine", kind)
    settings = PruningSettings(0.5, epochs=2, algorithm="mine", schedule=schedule, type=shape)
    inner = optax.sgd(0.1, momentum=0.9) if inner is None else inner
    scheme = lagrangian.dual_primal(inner, training.dual_formulation(DualSettings()))
    try:
        flags = {name: name in prunable for name in ("first", "last")}
        pruner = training.build_pruner(settings, flags)
        yield training.make_trainer(
            tiny().model, scheme, unconstrained(), pruner, constrained_from=0
        )
    finally:
        registry.unregister_algorithm("mine")


def run(trainer, epochs=3):
    """The states at the ends of `epochs` epochs of one step."""
    state = trainer.init(tiny().variables, jax.random.key(1))
    step, states = jax.jit(trainer.step), []
    for epoch in range(epochs):
        state, _ = step(state, tiny().train, jnp.arange(tiny().train.size), epoch)
        states.append(state)
    return states


def kept(state):
    return [round(float(np.mean(mask)), 2) for mask in jax.tree.leaves(state.masks)]


def test_phases_in_a_run_of_ours():
    kind = functools.partial(phases.Phases, dense_first=1, stay_sparse=3)
    with trainer_of(kind) as trainer:
        dense, sparse, back, last = map(kept, run(trainer, 4))
    assert dense == back == [1.0, 1.0]
    assert sparse == last == pytest.approx([0.5, 0.5], abs=0.05)


def test_gradual_n_of_m_in_a_run_of_ours():
    kind = functools.partial(gradual_nm.GradualNM, topk_fn=None)
    with trainer_of(kind, None, "one_shot", "nm_2,4", ["first"]) as trainer:
        assert isinstance(trainer.pruner.updater.topk_fn, functools.partial)
        found = run(trainer, 1)[0].masks
    assert found["last"] is None
    np.testing.assert_array_equal(found["first"].sum(0), [2, 2, 2, 2, 2])  # of four inputs each


@pytest.mark.parametrize("kind", [curvature.Curvature, curvature.PlainCurvature])
def test_importance_from_the_optimiser_in_a_run_of_ours(kind):
    with trainer_of(kind, optax.adam(0.01), schedule="periodic") as trainer:
        before, after = run(trainer, 2)
    nu = curvature.adam_state(before.lagrangian.primal_state).nu
    for name, weight in before.params.items():
        scores = np.asarray(weight**2 * nu[name])
        smallest_kept = scores[np.asarray(after.masks[name]) == 1].min()
        assert smallest_kept >= scores[np.asarray(after.masks[name]) == 0].max()


def test_an_update_state_that_resets_the_optimiser_does_so_in_a_run_of_ours():
    moments = []
    for reset in (False, True):
        kind = functools.partial(curvature.Curvature, reset_adam=reset)
        with trainer_of(kind, optax.adam(0.01), schedule="periodic") as trainer:
            state = run(trainer, 2)[-1]
        moments.append(curvature.adam_state(state.lagrangian.primal_state))
    # After one step μ = .1 g and ν = .001 g².
    fresh = [
        np.allclose(each.mu["first"] ** 2, 10 * each.nu["first"], rtol=1e-3) for each in moments
    ]
    assert fresh == [False, True]


@pytest.mark.parametrize("library", [pruning, jaxpruner], ids=["ours", "jaxpruner"])
def test_scores_put_on_the_object_count_in_a_run_of_ours(library):
    class Mine(library.MagnitudePruning):
        pass

    with trainer_of(Mine, schedule="one_shot") as trainer:
        updater = trainer.pruner.updater
        updater.calculate_scores = lambda params, sparse_state=None, grads=None: jax.tree.map(
            lambda leaf: -jnp.abs(leaf), params
        )
        masks = run(trainer, 1)[0].masks
    for name, weight in tiny().variables.params.items():
        size, mask = np.abs(np.asarray(weight)), np.asarray(masks[name])
        assert size[mask == 1].max() <= size[mask == 0].min()


def test_hooks_of_the_sparse_trainers_are_called_in_a_run_of_ours():
    seen = []

    class Mine(jaxpruner.RigL):
        def _get_drop_scores(self, sparse_state, params, grads):
            seen.append("drop")
            return super()._get_drop_scores(sparse_state, params, grads)

        def _get_grow_scores(self, sparse_state, params, grads):
            seen.append("grow")
            return super()._get_grow_scores(sparse_state, params, grads)

    with trainer_of(Mine, schedule="periodic") as trainer:
        sizes = {tuple(kept(state)) for state in run(trainer, 3)}
    assert len(sizes) == 1 and {"drop", "grow"} == set(seen)


@pytest.mark.parametrize("hook", ["wrap_optax", "pre_forward_update"])
def test_a_run_of_ours_refuses_hooks_that_it_would_not_call(hook):
    body = {hook: lambda self, *arguments: arguments[0]}
    mine = type("Mine", (jaxpruner.MagnitudePruning,), body)
    text = f"Mine has its own {hook}, which a training step does not call"
    with pytest.raises(UserError, match=text), trainer_of(mine):
        pass
    straight = type("Straight", (jaxpruner.SteMagnitudePruning,), {})
    with trainer_of(straight) as trainer:
        assert trainer.pruner.is_straight_through


class EverySecond(jaxpruner.NoUpdateSchedule):
    """Decides itself when masks change, with the two methods that jaxpruner's schedules have."""

    def is_mask_update_iter(self, step):
        return step % 2 == 0


class Alone:
    """Derived from nothing."""

    is_mask_update_iter = EverySecond.is_mask_update_iter

    def get_sparsity_at_step(self, target_sparsities, step):
        return target_sparsities


@pytest.mark.parametrize("schedule", [EverySecond(), Alone()], ids=["derived", "alone"])
def test_schedules_of_ones_own_in_a_loop_and_in_a_run_of_ours(schedule):
    half = functools.partial(jaxpruner.sparsity_distributions.uniform, sparsity=0.5)
    updater = jaxpruner.MagnitudePruning(scheduler=schedule, sparsity_distribution_fn=half)
    assert next(steps(updater, optax.sgd(0.1), 1)).masks["w"].sum() == 2
    pruner = training.Pruner(updater)
    assert pruner.last_epoch is None  # not −1, which would mean that masks never change
    assert training.Pruner(jaxpruner.MagnitudePruning()).last_epoch == -1

    @dataclasses.dataclass
    class Mine(jaxpruner.MagnitudePruning):
        def __post_init__(self):
            super().__post_init__()
            self.scheduler = schedule

    with trainer_of(Mine) as trainer:
        assert kept(run(trainer, 1)[0]) == pytest.approx([0.5, 0.5], abs=0.05)


def test_states_of_frozen_dicts_lists_and_a_lone_array():
    half = functools.partial(jaxpruner.sparsity_distributions.uniform, sparsity=0.5)
    for tree in (flax.core.freeze(PARAMS), [PARAMS["w"], jnp.ones(3)], PARAMS["w"]):
        updater = jaxpruner.MagnitudePruning(
            scheduler=jaxpruner.OneShotSchedule(0), sparsity_distribution_fn=half
        )
        tx = updater.wrap_optax(optax.sgd(0.1, momentum=0.9))
        updates, state = tx.update(tree, tx.init(tree), tree)
        params = updater.post_gradient_update(optax.apply_updates(tree, updates), state)
        assert jax.tree.structure(params) == jax.tree.structure(tree)
        assert [int(mask.sum()) for mask in jax.tree.leaves(state.masks)] == [2]
