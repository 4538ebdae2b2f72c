"""An epoch overwrites its states, and how many members fit follows from what XLA needs for them."""

import functools

import jax
import numpy as np
import pytest

from bap_jax import models, pipeline
from bap_jax.pipeline import memory
from bap_jax.pipeline.tuner import make_compiled_run
from bap_jax.training import Execution
from bap_jax.training.loop import jit_epoch, over_members
from bap_jax.training.members import copy_to_host
from bap_jax.training.settings import OptimizerSettings, PruningSettings, Settings

SETTINGS = Settings(
    batch_size=100,
    optimizer=OptimizerSettings(momentum=0.9),
    pruning=PruningSettings(epochs=1, prunable="kernels"),
    finetune_epochs=1,
)


def num_bytes(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def analysis(digits_splits):
    """What XLA says of the epoch of some members, the bytes of their states, and the estimate."""
    model = models.build("mlp", 10, hidden=(256, 128))
    variables = jax.jit(model.init)(jax.random.key(0), digits_splits.train.inputs[:1])

    @functools.cache
    def analyse(how, count):
        context = pipeline.make_context(model, variables, digits_splits, Execution(members=how))
        compiled = make_compiled_run(context, SETTINGS)
        values = compiled.values([SETTINGS] * count)
        init = over_members(compiled.program.init, how, 1)
        states = jax.eval_shape(init, values, compiled.shared, variables)
        epoch = jit_epoch(compiled.program, how)
        lowered = epoch.lower(states, values, compiled.shared, compiled.train, 0)
        found = lowered.compile().memory_analysis()
        shared = num_bytes((compiled.shared, compiled.train))
        return found, num_bytes(states), shared, memory.need_of_program(context, SETTINGS)

    return analyse


@pytest.mark.smoke
@pytest.mark.parametrize(("how", "count"), [("vmap", 3), ("map", 2), ("map", 4)])
def test_an_epoch_overwrites_its_states(analysis, how, count):
    found, states, *_ = analysis(how, count)
    assert found.alias_size_in_bytes >= 0.99 * states
    assert found.output_size_in_bytes - found.alias_size_in_bytes < 0.05 * states


def test_one_after_another_members_need_their_states_only(analysis):
    few, many = (analysis("map", count)[0] for count in (2, 4))
    assert many.temp_size_in_bytes < 1.02 * few.temp_size_in_bytes


@pytest.mark.parametrize(("how", "count"), [("vmap", 3), ("map", 2), ("map", 4)])
def test_the_estimate_is_an_upper_one_and_at_most_twice_too_large(analysis, how, count):
    found, _, shared, need = analysis(how, count)
    taken = found.argument_size_in_bytes - shared + found.temp_size_in_bytes
    taken += found.output_size_in_bytes - found.alias_size_in_bytes
    assert taken <= need.fixed + count * need.per_member <= 2 * taken


def test_the_estimate_knows_the_state(analysis):
    """Exactly but for keys, targets and what the multipliers need."""
    _, states, _, need = analysis("map", 2)
    assert need.on_host == pytest.approx(3 * states / 2, rel=0.01)


def test_as_many_members_as_fit(digits_splits, small_dense, monkeypatch):
    for how in ("vmap", "map"):
        context = pipeline.make_context(*small_dense, digits_splits, Execution(members=how))
        need = memory.need_of_program(context, SETTINGS)
        each = need.per_member + need.on_host  # on a CPU they share one memory
        monkeypatch.setattr(
            memory, "free_bytes", lambda need=need, each=each: need.fixed + 5.5 * each
        )
        assert [memory.capacity(context, SETTINGS, count) for count in (3, 9)] == [3, 5]
        monkeypatch.setattr(memory, "free_bytes", lambda: 0)
        assert memory.capacity(context, SETTINGS, 9) == 1


def test_copies_on_the_host_outlast_their_arrays():
    arrays = {"a": np.arange(6.0), "key": jax.random.key(3)}
    tree = jax.tree.map(jax.device_put, arrays)
    copies = copy_to_host(tree)
    add = jax.jit(lambda tree: {"a": tree["a"] + 1, "key": tree["key"]}, donate_argnums=0)
    after = add(tree)
    assert tree["a"].is_deleted()
    np.testing.assert_array_equal(copies["a"], np.arange(6.0))
    np.testing.assert_array_equal(after["a"], np.arange(1.0, 7.0))
    assert jax.random.uniform(copies["key"]) == jax.random.uniform(jax.random.key(3))
