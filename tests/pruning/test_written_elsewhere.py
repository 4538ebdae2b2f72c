"""A class of ours that is copied into a user's file behaves as ours does there, too."""

import importlib.util
import inspect
import itertools
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import pipeline, pruning, training
from bap_jax.errors import UserError
from bap_jax.pruning import base_updater, registry
from bap_jax.pruning.arrays import UpdaterArrays, updater_arrays, with_arrays
from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.training import pruner_settings
from bap_jax.training.settings import PruningSettings, Settings
from bap_jax.types import ChannelGroup
from tests.pruning import updaters
from tests.training.tiny import tiny

PARAMS = updaters.layers(updaters.leaves())
PRUNABLE = {"a": {"bias": False, "kernel": True}, "b": {"bias": False, "kernel": True}}
GROUPS = [ChannelGroup("hidden", ("a/kernel",), vectors=("a/bias",))]
NAMES = pruning.algorithm_names()
STAR = "from bap_jax.pruning.base_updater import *\n"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Our class to its copy in a module outside the package; whole modules are copied."""
    folder, copies = tmp_path_factory.mktemp("users_code"), {}

    def copy_of(ours):
        module = sys.modules[ours.__module__]
        if module not in copies:
            path = folder / f"users_{ours.__module__.rpartition('.')[2]}.py"
            # A copied base class would be another base; of its module only NoPruning is copied.
            whole = Path(module.__file__).read_text()
            path.write_text(
                STAR + inspect.getsource(ours) if module is base_updater else whole, "utf-8"
            )
            spec = importlib.util.spec_from_file_location(path.stem, path)
            copies[module] = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(copies[module])
        return getattr(copies[module], ours.__name__)

    yield copy_of
    for module in copies.values():
        del sys.modules[module.__name__]


@pytest.fixture
def both(elsewhere, request):
    """Names of an algorithm of ours and of its copy."""
    name = request.param
    copy = elsewhere(registry.updater_class(name))
    assert copy is not registry.updater_class(name) and issubclass(copy, BaseUpdater)
    assert copy.__module__.startswith("users_")
    pruning.register_algorithm("copied", copy)
    yield name, "copied"
    registry.unregister_algorithm("copied")


every_algorithm = pytest.mark.parametrize("both", NAMES, indirect=True)


def build(name, sparsity=0.6, schedule="auto"):
    settings = PruningSettings(sparsity, epochs=3, algorithm=name, schedule=schedule)
    masks = jax.tree.map(lambda leaf: jnp.uint8(leaf > 0) if leaf.ndim > 1 else None, PARAMS)
    pruner = training.build_pruner(settings, PRUNABLE, masks=masks, groups=GROUPS, seed=3)
    return pruner.updater


def text(function, *operands):
    """The program that a function compiles to, without addresses."""
    return re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(function)(*operands)))


@every_algorithm
def test_arrays_of_members_and_counts(both):
    ours, copy = (updater_arrays(build(name), PARAMS) for name in both)
    assert ours != UpdaterArrays()
    jax.tree.map(np.testing.assert_array_equal, data(ours), data(copy))


def data(arrays):
    key = None if arrays.key is None else jax.random.key_data(arrays.key)
    return arrays._replace(key=key)


@every_algorithm
def test_programs_of_a_step(both):
    """The same operations: the fast ranking, which moments restart, what is set to 0."""

    def of(name):
        updater = build(name)
        tx = updater.wrap_optax(optax.sgd(0.1, momentum=0.9))
        state = updaters.as_arrays(tx.init(PARAMS))
        arrays = updater_arrays(updater, PARAMS)
        facts = updater.may_regrow(), updater.changes_masks_only(), updater.zeroes_removed()
        seen = text(updater.pre_forward_update, PARAMS, state)
        own = text(lambda arrays: with_arrays(updater, arrays).init_state(PARAMS), arrays)
        return facts, seen, own, text(tx.update, PARAMS, state, PARAMS)

    ours, copy = map(of, both)
    assert ours == copy


@every_algorithm
def test_masks(both):
    ours, copy = (build(name) for name in both)
    assert_masks_equal(ours, copy)


def assert_masks_equal(ours, copy):
    states = [updater.init_state(PARAMS) for updater in (ours, copy)]
    for count in range(4):
        states = [
            updater.update_state(state._replace(count=jnp.int32(count)), PARAMS, PARAMS)
            for updater, state in zip((ours, copy), states, strict=True)
        ]
        jax.tree.map(np.testing.assert_array_equal, states[0].masks, states[1].masks)


@pytest.mark.parametrize("both", ["fairgrape"], indirect=True)
def test_masks_from_data(both):
    problem, masks = tiny(), []
    for name in both:
        pruning_settings = PruningSettings(0.5, epochs=2, algorithm=name, prunable="first,last")
        settings = Settings(pruning=pruning_settings, batch_size=15)
        pruner = pipeline.pruner_from_settings(
            problem.model, problem.variables, problem.train, settings, 3
        )
        masks.append(pruner.updater.masks)
    jax.tree.map(np.testing.assert_array_equal, *masks)


@every_algorithm
def test_what_settings_allow(both):
    choices = itertools.product(
        ("auto", *pruner_settings.SCHEDULES), ("uniform", "erk"), ("unstructured", "channel")
    )
    for schedule, distribution, kind in choices:
        options = {"schedule": schedule, "distribution": distribution, "type": kind}
        found = [allowed(name, options) for name in both]
        assert found[0] == found[1], options


def allowed(name, options):
    settings = PruningSettings(0.5, algorithm=name, **options)
    try:
        pruner_settings.check_pruning(settings)
    except UserError as error:
        return str(error).replace(repr(name), "it")
    return pruner_settings.schedule_name(settings)


def test_an_override_takes_its_class_out_of_the_promises():
    class Renamed(pruning.MagnitudePruning):
        pass

    class OwnScores(pruning.MagnitudePruning):
        def calculate_scores(self, params, sparse_state=None, grads=None):
            return jax.tree.map(jnp.square, params)

    class OwnState(pruning.MagnitudePruning):
        def update_state(self, sparse_state, params, grads):
            return sparse_state

    class Promised(OwnState):
        never_regrows = keeps_inner_state = supports_arrays = True

        def update_state(self, sparse_state, params, grads):
            return sparse_state

    def facts(kind):
        updater = kind(scheduler=pruning.GradualSchedule(3))
        whole = updater_arrays(updater, PARAMS) == UpdaterArrays()
        return updater.may_regrow(), updater.changes_masks_only(), whole

    assert facts(pruning.MagnitudePruning) == facts(Renamed) == (False, True, False)
    assert facts(OwnScores) == (True, True, False)
    assert facts(OwnState) == (True, False, True)
    assert facts(Promised) == (False, True, False)
