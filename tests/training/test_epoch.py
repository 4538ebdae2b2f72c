"""An epoch as one loop is its steps one after another, whenever masks change."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian, pruning, training
from bap_jax.constraints import excess_accuracy_gap
from bap_jax.pruning import sparsity_distributions
from bap_jax.training import Pruner, packing
from tests.training.tiny import tiny

EPOCHS, STEPS, BATCH = 4, 3, 8
PRUNERS = {
    "magnitude": ("magnitude", "epoch", {}),
    "by step": ("magnitude", "step", {}),
    "set": ("set", "epoch", {"drop_fraction_fn": lambda step: 0.5}),
    "rigl": ("rigl", "epoch", {"drop_fraction_fn": lambda step: 0.5}),
    "saliency": ("saliency", "epoch", {}),
    "moments at 0": ("magnitude", "epoch", {"pruned_moments": "zero"}),
    "moments kept": ("set", "epoch", {"pruned_moments": "keep"}),
    "straight-through": ("magnitude_ste", "epoch", {}),
    "none": ("no_prune", "epoch", {}),
}


def make_trainer(name):
    """A trainer of CEAG with momentum; masks change in epochs (or steps) 0 and 2."""
    algorithm, unit, options = PRUNERS[name]
    problem = tiny()
    updater = pruning.registry.updater_class(algorithm)
    if algorithm != "no_prune":
        options = options | {
            "scheduler": pruning.PeriodicSchedule(
                update_freq=2, update_start_step=0, update_end_step=2
            ),
            "sparsity_distribution_fn": functools.partial(
                sparsity_distributions.uniform, sparsity=0.5
            ),
        }
    scheme = lagrangian.build_scheme(
        "dual_primal",
        optax.sgd(0.1, momentum=0.9),
        lagrangian.gradient_ascent(optax.sgd(0.5), start=0.5),
    )
    constraint = excess_accuracy_gap(problem.reference, 0.0, buffer_size=2)
    pruner = Pruner(updater(**options), unit)
    return training.make_trainer(
        problem.model, scheme, constraint, pruner, constrained_from=1
    ), problem


def order_of(epoch):
    return np.random.default_rng(epoch).permutation(30)[: STEPS * BATCH].reshape(STEPS, BATCH)


@pytest.mark.parametrize("name", PRUNERS)
def test_a_loop_is_its_steps(name):
    trainer, problem = make_trainer(name)
    start = trainer.init(problem.variables, jax.random.key(0))
    step, together = jax.jit(trainer.step), jax.jit(trainer.run_steps)
    state, loop_state, changes = start, start, 0
    for number in range(EPOCHS):
        before, seen = state.masks, []
        for indices in order_of(number):
            state, metrics = step(state, problem.train, indices, number)
            seen.append(metrics)
        loop_state, loop_metrics = together(loop_state, problem.train, order_of(number), number)
        each = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen)
        chex.assert_trees_all_close(plain(loop_state), plain(state), atol=1e-6)
        chex.assert_trees_all_close(loop_metrics, each, atol=1e-6)
        chex.assert_trees_all_equal(loop_state.masks, state.masks)
        changes += any(
            (one != other).any()
            for one, other in zip(*map(jax.tree.leaves, (before, state.masks)), strict=True)
        )
    assert changes >= (name != "none")


def plain(state):
    return state._replace(key=jax.random.key_data(state.key))


@pytest.mark.parametrize("name", ["magnitude", "set", "moments at 0"])
def test_an_epoch_begins_once(name):
    """Later in the epoch `begin_epoch` changes nothing, so steps may call it each time."""
    trainer, problem = make_trainer(name)
    indices, later = order_of(0)[:2]
    state = trainer.init(problem.variables, jax.random.key(0))
    begun = trainer.begin_epoch(state, problem.train, indices, 0)
    assert not same(begun.masks, state.masks) or name == "set"
    moved, _ = trainer.step_in_epoch(begun, problem.train, indices, 0)
    again = trainer.begin_epoch(moved, problem.train, later, 0)
    chex.assert_trees_all_equal(plain(again), plain(moved))


def same(one, other):
    leaves = zip(*map(jax.tree.leaves, (one, other)), strict=True)
    return all(np.array_equal(*pair) for pair in leaves)


def test_small_numbers_are_written_together(monkeypatch):
    """Packed or not, the numbers of the steps are the same; packed, the loop has fewer results."""
    found, results = [], []
    for largest in (4096, 0):
        monkeypatch.setattr(packing, "_LARGEST_PACKED", largest)
        trainer, problem = make_trainer("magnitude")
        state = trainer.init(problem.variables, jax.random.key(0))

        def run(state, trainer=trainer, problem=problem):
            return trainer.run_steps(state, problem.train, order_of(0), 0)[1]

        [loop] = (e for e in jax.make_jaxpr(run)(state).eqns if e.primitive.name == "scan")
        results.append(len(loop.outvars))
        found.append(jax.jit(run)(state))
    chex.assert_trees_all_equal(*found)
    # Three numbers, three arrays and two masks of the groups, each kind in one array.
    assert results[1] - results[0] == 2 + 2 + 1
