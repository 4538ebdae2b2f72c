"""Optimisers from Python and by name: one call, configs, both phases, several devices."""

import dataclasses

import chex
import jax
import numpy as np
import optax
import pytest
from flax import nnx

import bap_jax
from bap_jax import experiment, pipeline
from bap_jax.api import with_optimizers
from bap_jax.errors import UserError
from bap_jax.training import (
    OPTIMIZERS,
    DualSettings,
    Execution,
    OptimizerSettings,
    PruningSettings,
    Settings,
    check_settings,
)
from bap_jax.training.optimizers import primal_optimizer
from tests.test_api import QUICK, TEST, Net, arrays
from tests.test_experiment import hashes, tiny
from tests.training.test_optimizers import walk


@pytest.fixture
def registry():
    """The optimisers; what a test registers is forgotten after it."""
    before = dict(OPTIMIZERS)
    yield OPTIMIZERS
    OPTIMIZERS.clear()
    OPTIMIZERS.update(before)


def test_optimizers_in_one_call():
    result = bap_jax.prune_and_tune(
        Net(nnx.Rngs(0)),
        *arrays(),
        test_indices=TEST,
        settings=QUICK,
        optimizer=optax.inject_hyperparams(optax.adamw)(learning_rate=0.01),
        dual_optimizer=optax.adam(0.1),
    )
    assert float((result.pruned.first.kernel[...] == 0).mean()) == pytest.approx(77 / 96)
    assert result.report["splits"]["train"]["sparse_accuracy"] > 0.1


def test_a_mistake_is_found_before_anything_is_evaluated(monkeypatch):
    monkeypatch.setattr(pipeline, "make_context", lambda *_: pytest.fail("evaluated"))
    options = {"test_indices": TEST, "settings": QUICK}
    for optimizer, text in (
        (optax.masked(optax.adam(0.1), {"body": True}), "optimizer.name 'custom' cannot move"),
        ("adm", "unknown optimizer 'adm'"),
        (DualSettings(), "an optimizer is a name, an optax .* got DualSettings"),
    ):
        with pytest.raises(UserError, match=text):
            bap_jax.prune_and_tune(Net(nnx.Rngs(0)), *arrays(), optimizer=optimizer, **options)


def own(learning_rate, settings):
    return optax.adam(learning_rate, b1=settings.beta1)


def test_what_the_arguments_replace():
    start = Settings(
        optimizer=OptimizerSettings(0.5, warmup=0.1),
        dual=DualSettings("ascent", learning_rate=0.3, start=1.0),
    )
    assert with_optimizers(start, None, None) == start
    named = with_optimizers(start, "lion", own)
    assert named.optimizer == OptimizerSettings(0.5, warmup=0.1, name="lion")
    assert named.dual == DualSettings("ascent", learning_rate=0.3, start=1.0, optimizer=own)
    sgd = optax.sgd(0.1)
    brought = with_optimizers(start, sgd, sgd)
    assert brought.optimizer == OptimizerSettings(name=sgd)
    assert brought.dual == DualSettings("ascent", start=1.0, optimizer=sgd)
    assert with_optimizers(start, OptimizerSettings(0.2), None).optimizer.learning_rate == 0.2
    for optimizer in (sgd, "adam", own):  # the usual rule reads none
        chosen = with_optimizers(Settings(), None, optimizer).dual
        assert chosen == DualSettings("ascent", optimizer=optimizer)
        check_settings(Settings(dual=chosen))


@pytest.mark.parametrize("name", ["mine", "tests.test_optimizer_names:own", own])
def test_a_function_by_any_name_is_that_function(name, registry):
    bap_jax.register_optimizer("mine", own)
    bap_jax.register_optimizer("mine", own)  # as a config file that is read twice
    settings = OptimizerSettings(0.001, name=name, schedule="constant")
    chex.assert_trees_all_equal(walk(primal_optimizer(settings, 3, 1)), walk(optax.adam(0.001)))


@pytest.mark.parametrize(
    ("name", "build", "text"),
    [
        ("adam", own, "optimizer 'adam' exists already; .*register_optimizer"),
        ("mine", optax.adam(0.1), "an optimizer is a name, .* got GradientTransformation"),
        ("mine", lambda a, b, c: None, "an optimizer is a name, .* got <function"),
        ("a b", own, "the name of a optimizer consists of letters"),
    ],
)
def test_mistakes_when_registering(name, build, text, registry):
    before = dict(registry)
    with pytest.raises(UserError, match=text):
        bap_jax.register_optimizer(name, build)
    assert registry == before


@pytest.mark.smoke
def test_a_config_names_optimizers_for_all_three_places(tmp_path, registry):
    """A registered function, one that Python can import, and one of optax."""
    bap_jax.register_optimizer("mine", own)
    changes = {"optimizer.learning_rate": 0.001, "dense.optimizer.learning_rate": 0.001}
    changes |= {"finetune_epochs": 1, "dense.epochs": 1, "pruning.epochs": 1}
    changes["dual.rule"] = "ascent"
    keys, found = ("optimizer.name", "dense.optimizer.name", "dual.optimizer"), []
    for names in (("mine", "tests.test_optimizer_names:own", "mine"), ("adam", "adam", "adam")):
        config = tiny(**changes, **dict(zip(keys, names, strict=True)))
        found.append(hashes(experiment.run_experiment(config, tmp_path / names[0])))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        (
            "optimizer.name",
            "optax:lookahead",
            r"is a name, .*\(learning_rate, settings\) -> transf",
        ),
        (
            "optimizer.name",
            "optax:polyak_sgd",
            r"is a name, .*\(learning_rate, settings\) -> transf",
        ),
        ("dense.optimizer.name", "optax:scale", "dense.optimizer.name 'optax:scale' cannot move"),
        ("dual.optimizer", "tests.test_optimizer_names:no", "dual.optimizer .* cannot move"),
        ("dense.optimizer.warmup", 3.0, "dense.optimizer.warmup must lie in"),
        ("dense.optimizer.schedule", "cos", "unknown schedule 'cos'"),
    ],
)
def test_mistakes_in_a_config(key, value, text, tmp_path):
    with pytest.raises(UserError, match=text):
        experiment.run_experiment(tiny(**{"dual.rule": "ascent", key: value}), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def no(learning_rate, settings):
    raise ValueError(f"no optimizer for {learning_rate}")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("adamw", marks=pytest.mark.smoke),
        *(pytest.param(name, marks=pytest.mark.slow) for name in (*OPTIMIZERS, "muon")),
    ],
)
def test_swept_rates_and_devices_change_nothing(name, digits_splits, small_dense):
    """Members with different rates at once, and one by one with each batch on eight devices."""
    optimizer = OptimizerSettings(
        name="optax.contrib:muon" if name == "muon" else name, schedule="cosine", warmup=0.1
    )
    settings = Settings(
        batch_size=100,
        optimizer=optimizer,
        pruning=PruningSettings(epochs=1, prunable="kernels"),
        finetune_epochs=1,
    )
    members = [
        dataclasses.replace(settings, optimizer=dataclasses.replace(optimizer, learning_rate=rate))
        for rate in (0.01, 0.001)
    ]
    found = []
    for how in ({"members": "vmap"}, {"members": "single", "devices": 8}):
        execution = Execution(epoch="device", **how)
        context = pipeline.make_context(*small_dense, digits_splits, execution)
        outcomes = pipeline.make_tuner(context, members[0]).run(members)
        found.append([outcome.last.variables.params for outcome in outcomes])
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=2e-5), *found)
    leaves = zip(*map(jax.tree.leaves, found[0]), strict=True)
    assert max(np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in leaves) > 1e-3
