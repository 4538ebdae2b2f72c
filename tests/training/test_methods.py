"""Every method: that it runs, what it reads, whom it watches and when."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import constraints, data, lagrangian, pipeline, training
from bap_jax.constraints import Constraint, DenseReference, constraint_values
from bap_jax.errors import UserError
from bap_jax.lagrangian import SCHEMES
from bap_jax.metrics import GroupSums
from bap_jax.training import METHODS, DualSettings, methods
from tests.training.tiny import dual_of, settings_of, tiny, trainer_of, whole_split
from tests.tuning import prune_and_tune

CONSTRAINED = ("ceag", "pairwise", "floor", "distillation", "el", "penalty")


def first_state(trainer, scale=0.5):
    """A network that differs from the dense one."""
    variables = tiny().variables
    params = jax.tree.map(lambda leaf: scale * leaf, variables.params)
    return trainer.init(variables._replace(params=params), jax.random.key(0))


@functools.cache
def two_steps(method, scheme, rule="ascent"):
    """State before and after, and the metrics of the second step; each step is half the samples."""
    trainer = trainer_of(tiny(), settings_of(method, scheme, dual_of(rule)))
    state, step = first_state(trainer), jax.jit(trainer.step)
    first = state
    for indices in jnp.arange(30).reshape(2, 15):
        state, metrics = step(state, tiny().train, indices, 0)
    return first, state, metrics


def signature(tree):
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize(
    ("method", "scheme", "rule"),
    [(method, "dual_primal", "ascent") for method in METHODS]
    + [(method, "dual_primal", "auto") for method in CONSTRAINED if method != "penalty"]
    + [("ceag", "switching", "ascent"), ("pairwise", "optimistic", "ascent")]
    + [("ceag", "optimistic", "auto")]
    + [
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            ("ceag", "extragradient", "ascent"),
            ("ceag", "extragradient", "auto"),
            ("group_dro", "extragradient", "ascent"),
            ("floor", "primal_dual", "ascent"),
        )
    ],
)
def test_two_steps(method, scheme, rule):
    before, after, metrics = two_steps(method, scheme, rule)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert signature(before) == signature(after)
    for leaf in jax.tree.leaves((after.params, after.lagrangian, metrics.lagrangian, metrics.loss)):
        assert np.isfinite(leaf).all()
    assert after.step == 2
    assert metrics.multipliers.shape == metrics.proxy.shape == metrics.violation_mask.shape
    np.testing.assert_array_equal(metrics.multipliers, after.lagrangian.multipliers)


@pytest.mark.parametrize("rule", ["ascent", "auto"])
def test_jit_is_no_jit(rule):
    first, after, metrics = two_steps("ceag", "dual_primal", rule)
    step = trainer_of(tiny(), settings_of("ceag", dual=dual_of(rule))).step
    for indices in jnp.arange(30).reshape(2, 15):
        first, seen = step(first, tiny().train, indices, 0)
    pairs = zip(jax.tree.leaves((first, seen)), jax.tree.leaves((after, metrics)), strict=True)
    for one, other in pairs:
        if not jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "rule"),
    [(method, "ascent") for method in METHODS if method != "nft"]
    + [(method, "auto") for method in CONSTRAINED if method != "penalty"],
)
def test_every_method_is_more_than_fine_tuning(method, rule):
    pairs = ("nft", "ascent"), (method, rule)
    plain, other = (two_steps(name, "dual_primal", by)[1].params["first"] for name, by in pairs)
    assert np.abs(plain - other).max() > 1e-4


def trace(trainer, **changes):
    """The state that a step would give."""
    train = tiny().train._replace(**changes)
    return jax.eval_shape(trainer.step, first_state(trainer), train, jnp.arange(15), 0)[0]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("method", "rule"),
    [(method, "ascent") for method in ("nft", "pairwise", "group_dro", "penalty")]
    + [("nft", "auto"), ("pairwise", "auto")],
)
def test_every_scheme_takes_every_kind_of_formulation(method, rule, scheme):
    trainer = trainer_of(tiny(), settings_of(method, scheme, dual_of(rule)))
    assert signature(trace(trainer)) == signature(first_state(trainer))


@pytest.mark.parametrize("method", METHODS)
def test_dense_logits_are_read_only_where_a_method_says_so(method):
    chosen = settings_of(method)
    trainer = trainer_of(tiny(), chosen)
    needs = methods.build_method(tiny().reference, chosen).needs_dense_logits
    assert_reads_dense_logits(trainer, needs)


def assert_reads_dense_logits(trainer, needs):
    """A step without them is an error if they are needed, and an ordinary step if not."""
    if not needs:
        assert signature(trace(trainer, dense_logits=None)) == signature(first_state(trainer))
        return
    with pytest.raises(UserError, match="the data have none; write data._replace"):
        trace(trainer, dense_logits=None)


@pytest.mark.parametrize(
    ("change", "needs"),
    [
        ({}, False),
        ({"dual": dual_of("auto")}, False),
        ({"dual": dual_of("auto"), "estimator": "plain"}, False),
        ({"dual": dual_of("auto"), "estimator": "paired"}, True),
        ({"dual": dual_of("auto"), "proxy": "kl"}, True),
        ({"estimator": "adaptive"}, False),
        ({"estimator": "paired"}, True),
        ({"estimator": "control_variate"}, True),
        ({"proxy": "kl"}, True),
    ],
)
@pytest.mark.parametrize("method", ["ceag", "pairwise", "floor", "penalty"])
def test_options_that_need_dense_logits(method, change, needs):
    chosen = settings_of(method, **change)
    assert methods.build_method(tiny().reference, chosen).needs_dense_logits == needs
    trainer = trainer_of(tiny(), chosen)
    assert signature(trace(trainer)) == signature(first_state(trainer))
    assert_reads_dense_logits(trainer, needs)


@pytest.mark.parametrize("rule", ["ascent", "auto"])
@pytest.mark.parametrize("method", CONSTRAINED)
def test_small_groups_keep_their_multipliers(method, rule):
    dual = DualSettings(rule, start=0.1 if rule == "ascent" else 0.0)
    chosen = settings_of(method, dual=dual, min_group_size=10)
    chosen = dataclasses.replace(chosen, tolerance=1.0)
    built = methods.build_method(tiny().reference, chosen)
    start = built.formulation.init(built.constraint.size)
    if rule == "auto" and method != "penalty":  # multipliers that can fall
        integral = jnp.ones_like(start.multipliers)
        start = start._replace(
            multipliers=0.1 * integral, memory=start.memory._replace(integral=integral)
        )
    dual = start
    state = built.constraint.init()
    seen = whole_split(jnp.linspace(0, 1, 30))._replace(logits=0.5 * tiny().train.dense_logits)

    @jax.jit
    def update(state, dual):
        values, state = built.constraint.evaluate(state, seen)
        return values, state, built.formulation.update_multipliers(values, dual)

    for _ in range(2):
        values, state, dual = update(state, dual)
    before, after = (one.multipliers.reshape(-1, 3) for one in (start, dual))
    np.testing.assert_array_equal(after[:, 2], before[:, 2])
    if rule == "auto" and method != "penalty":
        np.testing.assert_array_equal(dual.memory.integral.reshape(-1, 3)[:, 2], 1)
    for mask in (values.violation_mask, values.proxy_mask):
        np.testing.assert_array_equal(mask.reshape(-1, 3), [[True, True, False]] * len(before))
    if method != "penalty":  # within its tolerance, it stays at 0
        assert (after[:, :2] != before[:, :2]).all()


@pytest.mark.parametrize(("rule", "start"), [("ascent", 0.5), ("auto", 0.0)])
def test_the_report_names_groups_too_small_to_constrain(rule, start):
    labels = tiny().train.dense_logits.argmax(1)  # so that whatever pruning changes is a loss
    train = tiny().train._replace(labels=labels, dense_logits=None)
    train = jax.tree.map(np.asarray, train)
    splits = data.Splits(train, train, train, 3, ("a", "b", "c"))
    chosen = settings_of("floor", dual=dual_of(rule), min_group_size=11)
    chosen = dataclasses.replace(chosen, finetune_epochs=2)
    rows = []
    args = tiny().model, tiny().variables, splits
    tuned = prune_and_tune(*args, chosen, log=rows.append)
    assert tuned.unconstrained == {"b": 10, "c": 6}
    epochs = [row["multipliers"] for row in rows if "sparsity" in row]
    assert all(multipliers[1:] == [start, start] for multipliers in epochs)
    assert epochs[0][0] == start != epochs[-1][0]


@pytest.mark.parametrize(
    ("method", "scheme", "rule", "status", "weighs"),
    [
        ("ceag", "dual_primal", "auto", "too few epochs", True),
        ("el", "dual_primal", "auto", "too few epochs", True),
        ("ceag", "dual_primal", "ascent", "too few epochs", True),
        ("el", "dual_primal", "ascent", "too few epochs", False),  # absolute differences
        ("ceag", "dual_primal", "augmented", "too few epochs", False),
        ("ceag", "switching", "ascent", None, None),
        ("penalty", "dual_primal", "ascent", None, None),
        ("group_dro", "dual_primal", "ascent", None, None),
        ("nft", "dual_primal", "ascent", None, None),
    ],
)
def test_the_report_says_how_multipliers_behaved(method, scheme, rule, status, weighs):
    train = jax.tree.map(np.asarray, tiny().train._replace(dense_logits=None))
    splits = data.Splits(train, train, train, 3, ("a", "b", "c"))
    chosen = settings_of(method, scheme, dual_of(rule), el_absolute=rule == "ascent")
    chosen = dataclasses.replace(chosen, finetune_epochs=2)
    found = prune_and_tune(tiny().model, tiny().variables, splits, chosen).multipliers
    assert (found and found["status"]) == status
    if status is not None:
        assert {row["name"] for row in found["constraints"]} == {"a", "b", "c"}
        assert all((row["worth"] is not None) == weighs for row in found["constraints"])
        assert ("; group " if weighs else "; largest λ: ") in found["sentence"]


@functools.cache
def pruned(method, first_epoch, rule="ascent"):
    """State and metrics after one step, in epochs 0 to 2; the last pruning opens epoch 1.

    The first group misses its accuracy, whatever the network does.
    """
    model, variables, train, reference = tiny()
    reference = reference._replace(group_accuracy=jnp.array([2.0, 0.0, 0.0]))
    chosen = settings_of(method, dual=dual_of(rule), first_epoch=first_epoch)
    built = methods.build_method(reference, chosen)
    prunable = {"first": True, "last": False}
    pruner = training.build_pruner(chosen.pruning, prunable)
    trainer = pipeline.trainer_from_settings(model, built, pruner, chosen, 1)
    # Each from the first state, so that all differ in nothing but the epoch.
    state, step = trainer.init(variables, jax.random.key(0)), jax.jit(trainer.step)
    return [step(state, train, jnp.arange(30), epoch) for epoch in range(3)]


@pytest.mark.parametrize(
    ("method", "rule", "first", "acts_from"),
    [
        *(("ceag", rule, *epochs) for rule in ("ascent", "auto") for epochs in ((-1, 1), (0, 0))),
        ("reweighted", "ascent", -1, 1),
    ],
)
def test_the_first_epoch_in_which_a_method_acts(method, rule, first, acts_from):
    """Before it a method is plain fine-tuning."""
    start = dual_of(rule).start
    found = zip(pruned(method, first, rule), pruned("nft", -1), strict=True)
    for epoch, ((state, metrics), (plain, _)) in enumerate(found):
        active = epoch >= acts_from
        assert np.array_equal(state.params["first"], plain.params["first"]) != active
        if method == "ceag":
            assert metrics.violation_mask.all() == metrics.proxy_mask.all() == active
            assert (state.lagrangian.multipliers != start).any() == active
            memory = state.constraint
            seen = memory.count[1] if isinstance(memory, GroupSums) else memory.seen
            np.testing.assert_array_equal(seen > 0, [active] * 3)


def test_any_constraint_waits_for_its_first_epoch():
    """Also one that is always there, whatever the weights of the samples."""
    always = Constraint(1, lambda: (), lambda state, seen: (constraint_values(1.0), state))
    trainer = training.make_trainer(
        tiny().model,
        lagrangian.dual_primal(optax.sgd(0.1), optax.sgd(0.5)),
        always,
        training.no_pruning(),
        constrained_from=1,
    )
    step, state = jax.jit(trainer.step), first_state(trainer)
    for epoch in (0, 1):
        after, metrics = step(state, tiny().train, jnp.arange(30), epoch)
        np.testing.assert_array_equal(after.lagrangian.multipliers, [0.5 * epoch])
        np.testing.assert_array_equal(metrics.violation_mask, [bool(epoch)])
        np.testing.assert_array_equal(metrics.proxy_mask, [bool(epoch)])


@pytest.mark.parametrize("method", METHODS)
def test_only_these_are_meant_to_end_feasible(method):
    built = methods.build_method(tiny().reference, settings_of(method))
    assert built.is_constrained == (method in ("ceag", "pairwise", "floor", "distillation"))


@pytest.mark.parametrize("method", METHODS)
def test_these_have_multipliers(method):
    built = methods.build_method(tiny().reference, settings_of(method))
    expected = ("el", "ceag", "pairwise", "floor", "distillation")
    assert (built.is_constrained or built.has_multipliers) == (method in expected)


def test_the_group_of_each_constraint():
    reference = tiny().reference
    num_groups = reference.count.size
    ids = list(range(num_groups))

    def found(constraint):
        return methods.group_of_constraints(constraint, num_groups).tolist()

    floor = constraints.worst_group_floor(reference, 0.01)
    some = constraints.among(
        reference, [1, 0], lambda part: constraints.worst_group_floor(part, 0.01)
    )
    assert found(floor) == ids
    assert found(constraints.pairwise_disparity(reference, 0.01)) == ids + ids
    assert found(some) == [1, 0]
    assert found(floor._replace(size=num_groups + 1)) == [-1] * (num_groups + 1)
    assert found(constraints.combine({"a": some, "b": floor})) == [1, 0, *ids]
    assert found(constraints.unconstrained()) == []


def test_small_groups_need_counts():
    """A reference may leave its counts out; a method cannot tell small groups without them."""
    without = tiny().reference._replace(count=DenseReference._field_defaults["count"])
    with pytest.raises(UserError, match="count"):
        methods.build_method(without, settings_of("ceag"))
