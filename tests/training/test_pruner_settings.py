"""Every pruning algorithm within a training step, by its name in the settings."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian, pipeline, pruning, training
from bap_jax.constraints import unconstrained
from bap_jax.errors import UserError
from bap_jax.pipeline import masks_from_data
from bap_jax.pruning import registry
from bap_jax.pruning.structured import prunable_groups
from bap_jax.training import Pruner, pruner_settings
from bap_jax.training.settings import DualSettings, PruningSettings, Settings
from bap_jax.types import ChannelGroup, Variables
from tests.training.tiny import tiny

EVERYTHING = {"first": True, "last": True}
HIDDEN = ChannelGroup("hidden", ("first",), consumers=("last",))


def chosen(algorithm="magnitude", **options):
    return PruningSettings(**{"sparsity": 0.5, "epochs": 2, "algorithm": algorithm} | options)


def pruner_of(settings):
    problem, made = tiny(), {"groups": [HIDDEN]}
    if registry.updater_class(settings.algorithm).needs_data:
        run = Settings(pruning=settings, batch_size=8)
        made["masks"] = masks_from_data.make_masks(
            problem.model, problem.variables, problem.train, EVERYTHING, run, 3
        )
    return training.build_pruner(settings, EVERYTHING, **made)


def trainer_of(pruner, learning_rate=0.1):
    scheme = lagrangian.dual_primal(
        optax.sgd(learning_rate, momentum=0.9), training.dual_formulation(DualSettings())
    )
    return training.make_trainer(tiny().model, scheme, unconstrained(), pruner, constrained_from=0)


def start(trainer):
    return trainer.init(tiny().variables, jax.random.key(1))


def run(trainer, epochs=4):
    """The states at the ends of `epochs` epochs of one step."""
    step, state, states = jax.jit(trainer.step), start(trainer), []
    for epoch in range(epochs):
        state, _ = step(state, tiny().train, jnp.arange(tiny().train.size), epoch)
        states.append(state)
    return states


def removed(state):
    masks = [np.asarray(mask) for mask in jax.tree.leaves(state.masks)]
    return sum(int((mask == 0).sum()) for mask in masks) / max(1, sum(m.size for m in masks))


def larger_half(score):
    """The mask that keeps the ⌊n / 2⌋ largest of n scores."""
    mask = np.zeros(score.size, np.uint8)
    mask[np.argsort(-np.ravel(score), kind="stable")[: score.size // 2]] = 1
    return mask.reshape(score.shape)


@pytest.mark.parametrize("algorithm", pruning.algorithm_names())
def test_every_algorithm_reaches_its_sparsity_and_keeps_removed_weights_at_zero(algorithm):
    settings = chosen(algorithm)
    training.check_settings(Settings(pruning=settings))
    states = run(trainer_of(pruner_of(settings)))
    expected = {"no_prune": 0, "channels": 0.6}.get(algorithm, 0.5)  # 3 of 5 channels
    for state in states[2:]:
        assert removed(state) == pytest.approx(expected, abs=0.02)
        network = state.variables.params
        for mask, leaf in zip(
            jax.tree.leaves(state.masks, is_leaf=lambda node: node is None),
            jax.tree.leaves(network),
            strict=True,
        ):
            assert mask is None or not np.asarray(leaf)[np.asarray(mask) == 0].any()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(network))


@pytest.mark.parametrize("schedule", [*pruner_settings.SCHEDULES][:-1])
def test_every_schedule_reaches_its_target(schedule):
    states = run(trainer_of(pruner_of(chosen(schedule=schedule))))
    rising = [removed(state) for state in states]
    assert rising[2] == rising[3] == pytest.approx(0.5, abs=0.02)
    at_once = schedule in ("one_shot", "periodic")
    assert (rising[0] == rising[3]) == at_once


@pytest.mark.parametrize("kind", ["nm_2,4", "block_2,1", "channel"])
def test_shapes_of_what_goes(kind):
    pruner = training.build_pruner(chosen(type=kind), {"first": True, "last": False})
    mask = np.asarray(run(trainer_of(pruner))[-1].masks["first"])  # (4, 5)
    if kind == "nm_2,4":
        assert (mask.sum(0) == 2).all()
    elif kind == "block_2,1":
        assert (mask[0] == mask[1]).all() and (mask[2] == mask[3]).all() and mask.sum() == 10
    else:
        assert (mask == mask[:1]).all() and mask[0].sum() == 2


def test_straight_through_moves_removed_weights_and_may_bring_them_back():
    before = tiny().variables.params["first"]
    state = run(trainer_of(pruner_of(chosen("magnitude_ste"))), epochs=4)[-1]
    gone = np.asarray(state.masks["first"]) == 0
    assert (np.asarray(state.params["first"])[gone] != 0).any()
    assert (np.asarray(state.params["first"]) != np.asarray(before))[gone].any()
    smallest = np.sort(np.abs(np.asarray(state.params["first"])).ravel())[: gone.sum()]
    np.testing.assert_allclose(np.sort(np.abs(np.asarray(state.params["first"])[gone])), smallest)


def test_the_straight_through_gradient_is_that_at_the_masked_weights():
    problem, trainer = tiny(), trainer_of(pruner_of(chosen("magnitude_ste", schedule="one_shot")))
    state = start(trainer)
    masks = {name: larger_half(jnp.abs(w)) for name, w in problem.variables.params.items()}
    masked = pruning.apply_masks(problem.variables.params, masks)

    def loss(params):
        logits, _ = problem.model.apply(Variables(params, ()), problem.train.inputs)
        labels = problem.train.labels
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    after, _ = jax.jit(trainer.step)(state, problem.train, jnp.arange(problem.train.size), 0)
    gradient = jax.jit(jax.grad(loss))(masked)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradient)
    for one, other in zip(jax.tree.leaves(after.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_weights_that_come_back_start_with_fresh_moments():
    states, found = run(trainer_of(pruner_of(chosen("set", epochs=6)))), 0
    for old, new in itertools.pairwise(states):
        moments = new.lagrangian.primal_state[0].trace
        for name, mask in new.masks.items():
            back = (np.asarray(old.masks[name]) == 0) & (np.asarray(mask) == 1)
            found += back.sum()
            # After its first step a weight is −η times one gradient: momentum had nothing to add.
            np.testing.assert_allclose(
                np.asarray(new.params[name])[back],
                -0.1 * np.asarray(moments[name])[back],
                atol=1e-7,
            )
    assert found


def test_saliency_is_that_of_the_batch():
    problem = tiny()
    trainer = trainer_of(pruner_of(chosen("saliency", schedule="one_shot")), learning_rate=0.0)

    def loss(params):
        logits, _ = problem.model.apply(Variables(params, ()), problem.train.inputs)
        labels = problem.train.labels
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    params = problem.variables.params
    scores = jax.tree.map(lambda p, g: jnp.abs(p * g), params, jax.grad(loss)(params))
    masks = run(trainer, epochs=1)[0].masks
    for name, score in scores.items():
        np.testing.assert_array_equal(masks[name], larger_half(score))


@pytest.mark.parametrize("algorithm", ["magnitude", "rigl", "magnitude_ste", "channels"])
def test_members_of_a_batch_of_runs_prune_as_they_do_alone(algorithm):
    """Under vmap, with members in different epochs."""
    trainer = trainer_of(pruner_of(chosen(algorithm)))
    one = run(trainer, epochs=3)
    pair = jax.tree.map(lambda *leaves: jnp.stack(leaves), one[0], one[1])
    step = jax.jit(jax.vmap(trainer.step, in_axes=(0, None, None, 0)))
    together, _ = step(pair, tiny().train, jnp.arange(tiny().train.size), jnp.array([1, 2]))
    for member, alone in enumerate(one[1:]):
        for a, b in zip(jax.tree.leaves(together.masks), jax.tree.leaves(alone.masks), strict=True):
            np.testing.assert_array_equal(a[member], b)
        for a, b in zip(
            jax.tree.leaves(together.params), jax.tree.leaves(alone.params), strict=True
        ):
            np.testing.assert_allclose(a[member], b, atol=1e-6)


def test_a_schedule_may_count_steps():
    uniform = functools.partial(pruning.sparsity_distributions.uniform, sparsity=0.5)
    updater = pruning.MagnitudePruning(
        scheduler=pruning.OneShotSchedule(2), sparsity_distribution_fn=uniform
    )
    states = run(trainer_of(Pruner(updater, "step")))
    np.testing.assert_allclose([removed(state) for state in states], [0, 0, 0.5, 0.5], atol=0.02)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"algorithm": "magnitud"},
            "unknown pruning.algorithm 'magnitud'; known: no_prune, magnit",
        ),
        ({"distribution": "erd"}, "unknown pruning.distribution 'erd'; known: uniform, erk"),
        ({"schedule": "cubic"}, "unknown pruning.schedule 'cubic'; known: auto, gradual"),
        ({"type": "nm_2"}, "unknown sparsity type 'nm_2'; known: unstructured, nm_N,M"),
        ({"type": "nm_5,4"}, "needs 0 < n ≤ m"),
        ({"counting": "floor"}, "unknown counting rule 'floor'; known: ceil, round"),
        ({"schedule": "none"}, "with schedule 'none' 'magnitude' never prunes"),
        ({"algorithm": "snip", "schedule": "gradual"}, "'snip' makes its masks once"),
        ({"algorithm": "snip", "type": "channel"}, "'channel' does not go with 'snip'"),
        ({"algorithm": "global_magnitude", "distribution": "erk"}, "sparsity itself"),
    ],
)
def test_mistakes_in_settings(options, text):
    with pytest.raises(UserError, match=text):
        pruner_settings.check_pruning(chosen(**options)) if "counting" not in options else (
            training.check_settings(Settings(pruning=chosen(**options)))
        )


def test_a_pruner_must_suit_a_training_step():
    packed = pruning.MagnitudePruning(use_packed_masks=True)
    with pytest.raises(UserError, match="leave out use_packed_masks"):
        trainer_of(Pruner(packed))
    with pytest.raises(UserError, match="'epoch' or 'step'; got 'minute'"):
        trainer_of(Pruner(pruning.NoPruning(), "minute"))
    stepwise = Pruner(pruning.MagnitudePruning(scheduler=pruning.OneShotSchedule(3)), "step")
    scheme = lagrangian.dual_primal(optax.sgd(0.1), training.dual_formulation(DualSettings()))
    with pytest.raises(UserError, match="constrained_from=EPOCH"):
        training.make_trainer(tiny().model, scheme, unconstrained(), stepwise)


def test_channels_need_a_group_of_prunable_kernels(small_dense):
    model, dense = small_dense
    groups = prunable_groups(
        [HIDDEN], {"first": jnp.ones((2, 2)), "last": jnp.ones((2, 2))}, EVERYTHING
    )
    assert groups == (HIDDEN,)
    settings = dataclasses.replace(
        Settings(), pruning=chosen("channels", prunable="dense_2/kernel")
    )
    inputs = np.zeros((1, 8, 8), np.float32)
    prunable = pipeline.find_prunable(model, dense, inputs, settings)
    from bap_jax.models import channel_groups

    with pytest.raises(UserError, match="no group of channels has only prunable producers"):
        prunable_groups(channel_groups(model), dense.params, prunable)
