"""Algorithms that a user registers: chosen by name, without an edit to the package."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import bap_jax
from bap_jax import config, metrics, pipeline, pruning, training
from bap_jax.errors import UserError
from bap_jax.pruning import registry
from bap_jax.training import pruner_settings
from bap_jax.training.settings import PruningSettings, Settings
from bap_jax.types import Variables
from tests.pruning import updaters
from tests.training.tiny import tiny

PARAMS = updaters.layers(updaters.leaves())
PRUNABLE = {"a": {"bias": False, "kernel": True}, "b": {"bias": False, "kernel": True}}


class SquaredSaliency(pruning.BaseUpdater):
    never_regrows = True

    def calculate_scores(self, params, sparse_state=None, grads=None):
        scores = jax.tree.map(lambda weight, grad: jnp.square(weight * grad), params, grads)
        return self.removed_last(scores, sparse_state)


class WorstGroup(pruning.MasksFromData):
    """Keeps weights by the largest |θ ∇ℓ_g| among the groups."""

    @classmethod
    def make_masks(cls, inputs):
        batches, gradient = inputs.make_batches(), jax.jit(jax.grad(inputs.group_loss))
        scores = jax.tree.map(jnp.zeros_like, inputs.params)
        for group in range(inputs.num_groups):
            gradients = [gradient(inputs.params, batch, group) for batch in batches]
            total = jax.tree.map(lambda *leaves: sum(leaves), *gradients)
            scores = jax.tree.map(
                lambda best, weight, grad: jnp.maximum(best, jnp.abs(weight * grad)),
                scores,
                inputs.params,
                total,
            )
        return inputs.keep_largest(scores)


class OneRanking(pruning.BaseUpdater):
    """A class that ranks all leaves together, written without ours."""

    is_layerwise = False
    takes_sparsity_type = False
    needs_gradients = False

    def __init__(self, sparsity, filter_fn, **fields):
        uniform = functools.partial(
            pruning.sparsity_distributions.uniform, sparsity=sparsity, filter_fn=filter_fn
        )
        super().__init__(sparsity_distribution_fn=uniform, **fields)

    def calculate_scores(self, params, sparse_state=None, grads=None):
        return jax.tree.map(jnp.abs, params)


@pytest.fixture
def mine():
    """Registers algorithms as `mine` and forgets them."""
    yield functools.partial(pruning.register_algorithm, "mine")
    registry.unregister_algorithm("mine")


def settings_of(sparsity=0.5, **options):
    return PruningSettings(sparsity, epochs=2, algorithm="mine", **options)


def test_a_name_that_nobody_registered():
    with pytest.raises(UserError, match=r"unknown pruning.algorithm 'mine'; known: no_prune, mag"):
        pruner_settings.check_pruning(settings_of())
    with pytest.raises(UserError, match=r"known: .*fairgrape\. Add your own with register_algori"):
        registry.find_algorithm("mine")


def test_a_score_in_settings_prunes_as_around_an_optimiser(mine):
    mine(SquaredSaliency)
    assert pruning.algorithm_names()[-1] == "mine"
    pruner_settings.check_pruning(settings_of())
    found = training.build_pruner(settings_of(), PRUNABLE, seed=1).updater
    uniform = functools.partial(pruning.sparsity_distributions.uniform, sparsity=0.5)
    own = SquaredSaliency(
        scheduler=pruning.GradualSchedule(2), sparsity_distribution_fn=uniform, counting="ceil"
    )
    after = [updaters.loop(each, each.wrap_optax(optax.sgd(0.1)), PARAMS) for each in (found, own)]
    updaters.assert_same(*after)
    assert set(pruning.leaf_sparsity(after[0][1].masks).values()) == {0.5}


def test_configs_and_the_command_line_take_the_name(mine):
    mine(SquaredSaliency)
    run = config.default_config()
    run.pruning.algorithm = "mine"
    assert config.to_settings(run).pruning.algorithm == "mine"
    run.pruning.schedule = "none"
    with pytest.raises(UserError, match="with schedule 'none' 'mine' never prunes"):
        config.to_settings(run)


def test_data_driven_masks_of_a_class_of_ones_own(mine):
    mine(WorstGroup)
    problem = tiny()
    settings = Settings(pruning=settings_of(prunable="first,last"), batch_size=15, seed=2)
    training.check_settings(settings)
    pruner = pipeline.pruner_from_settings(
        problem.model, problem.variables, problem.train, settings, 3
    )
    assert pruner.last_epoch == -1
    masks = pruner.updater.masks
    scores = worst_scores(problem)
    for name, score in scores.items():
        kept = np.asarray(score)[np.asarray(masks[name]) == 1]
        gone = np.asarray(score)[np.asarray(masks[name]) == 0]
        assert kept.size == score.size // 2 and kept.min() >= gone.max()


def worst_scores(problem):
    """The scores from the definition, over two batches of 15 samples."""
    order = jax.random.permutation(jax.random.key(2), problem.train.size)

    def loss(params, rows, group):
        logits, _ = problem.model.apply(Variables(params, ()), problem.train.inputs[rows])
        losses = metrics.cross_entropy(logits, problem.train.labels[rows])
        member = (problem.train.group_ids[rows] == group).any(-1)
        return jnp.where(member, losses, 0).sum() / jnp.maximum(member.sum(), 1)

    params, gradient = problem.variables.params, jax.jit(jax.grad(loss))
    totals = [
        jax.tree.map(jnp.add, *(gradient(params, rows, group) for rows in order.reshape(2, 15)))
        for group in range(3)
    ]
    return jax.tree.map(
        lambda weight, *grads: jnp.abs(weight[None] * jnp.stack(grads)).max(0), params, *totals
    )


def test_prune_and_tune_with_a_class_of_ones_own(mine):
    mine(WorstGroup)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 4)).astype(np.float32)
    labels = (inputs[:, 0] > 0).astype(int)
    settings = Settings(
        pruning=settings_of(prunable="kernels"), finetune_epochs=1, method="nft", batch_size=16
    )
    net = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    groups = rng.choice(["a", "b"], 60)
    result = bap_jax.prune_and_tune(
        net, inputs, labels, groups, test_indices=range(0, 60, 3), settings=settings
    )
    assert int((result.pruned.kernel[...] == 0).sum()) == 4


def test_promises_to_settings_are_those_of_the_class(mine):
    mine(OneRanking)
    with pytest.raises(UserError, match="'mine' finds each layer's sparsity itself"):
        pruner_settings.check_pruning(settings_of(distribution="erk"))
    with pytest.raises(UserError, match="'channel' does not go with 'mine'"):
        pruner_settings.check_pruning(settings_of(type="channel"))
    updater = training.build_pruner(settings_of(), PRUNABLE).updater
    assert isinstance(updater, OneRanking)
    _, masks = updater.instant_sparsify(PARAMS)
    assert masks["a"]["bias"] is None and pruning.sparsity(PARAMS, masks).prunable == 0.5


def test_arguments_may_be_filled_in_and_functions_registered(mine):
    mine(functools.partial(pruning.SET, pruned_moments="zero"))
    assert pruner_settings.schedule_name(settings_of()) == "periodic"
    updater = training.build_pruner(settings_of(), PRUNABLE).updater
    assert type(updater) is pruning.SET and updater.pruned_moments == "zero"

    def make(**arguments):
        return types.SimpleNamespace(**arguments)

    mine(make)
    made = training.build_pruner(settings_of(type="channel"), PRUNABLE, seed=5).updater
    assert made.rng_seed == 5 and made.scheduler == pruning.GradualSchedule(2)
    assert made.sparsity_distribution_fn(PARAMS) == jax.tree.map(
        lambda leaf: 0.5 if leaf.ndim > 1 else None, PARAMS
    )


def test_mistakes_in_a_class(mine):
    mine(type("Odd", (SquaredSaliency,), {"default_schedule": "often"}))
    text = "unknown default_schedule of 'mine' 'often'; known: gradual, polynomial"
    with pytest.raises(UserError, match=text):
        pruner_settings.check_pruning(settings_of())
    mine(type("NoMasks", (SquaredSaliency,), {"needs_data": True}))
    problem, settings = tiny(), Settings(pruning=settings_of(prunable="first"))
    with pytest.raises(UserError, match=r"'mine' declares needs_data.*derive its class NoMasks"):
        pipeline.pruner_from_settings(problem.model, problem.variables, problem.train, settings, 3)


def test_configs_of_jaxpruner_know_what_they_can_make(mine):
    data_driven = {"channels", "snip", "synflow", "fairgrape"}
    assert set(pruning.algorithm_names()) - set(pruning.all_algorithm_names()) == data_driven
    mine(WorstGroup)
    assert "mine" not in pruning.ALGORITHM_REGISTRY
    with pytest.raises(UserError, match="unknown algorithm 'mine'; known: no_prune"):
        pruning.create_updater_from_config({"algorithm": "mine", "sparsity": 0.5})
    pruning.ALGORITHM_REGISTRY["mine"] = OneRanking
    assert pruning.all_algorithm_names()[-1] == "mine"
    assert len(pruning.ALGORITHM_REGISTRY) == len(pruning.algorithm_names()) - 4
    updater = pruning.create_updater_from_config(
        {"algorithm": "mine", "sparsity": 0.5, "filter_fn": pruning.path_filter("b/*")}
    )
    assert pruning.leaf_sparsity(updater.instant_sparsify(PARAMS)[1]) == {"b/kernel": 0.5}


def test_summarize_intersection():
    first = {"a": jnp.array([1, 1, 0, 0]), "b": jnp.array([1, 0])}
    second = {"a": jnp.array([1, 0, 1, 0]), "b": jnp.array([1, 1])}
    found = pruning.summarize_intersection(first, second)
    assert {name: float(share) for name, share in found.items()} == pytest.approx(
        {"a": 0.5, "b": 1.0, "_total_intersection": 2 / 3}
    )
    assert set(pruning.summarize_intersection(first, second, True)) == {"_total_intersection"}


def test_what_is_public_exists_and_is_documented():
    for name in pruning.__all__:
        assert getattr(pruning, name).__doc__, name
    assert pruning.__all__ == sorted(pruning.__all__, key=_ruffs_order)
    assert dataclasses.is_dataclass(pruning.MasksFromData)


def _ruffs_order(name):
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name
