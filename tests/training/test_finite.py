"""Runs that meet numbers which are not finite: what the error names and what it keeps."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian, training
from bap_jax.constraints import combine, excess_accuracy_gap, group_distillation
from bap_jax.training import finite
from bap_jax.training.state import StepMetrics, TrainState
from bap_jax.types import Dataset
from tests.training.tiny import settings_of, tiny, trainer_of

NAMES = ("a", "b", "c")
DATA = Dataset(np.zeros((6, 1)), np.zeros(6, int), np.zeros((6, 1), int))  # three steps an epoch


class FakeTrainer(NamedTuple):
    """Two functions in place of a `training.Trainer`; nothing happens as an epoch begins."""

    init: Callable
    step: Callable

    def begin_epoch(self, state, data, indices, epoch):
        return state

    def step_in_epoch(self, state, data, indices, epoch):
        return self.step(state, data, indices, epoch)

    def run_steps(self, state, data, order, epoch):
        return jax.lax.scan(lambda state, row: self.step(state, data, row, epoch), state, order)


def fake_trainer(spoil, at, sets=()):
    """Every step adds 1 to the weight; `spoil` is what step `at` does to its metrics and weight.

    With `sets`, the first of these named sets of constraints is as it should be.
    """

    def init(variables, key):
        params = {"layer": {"kernel": jnp.zeros(2)}}
        return TrainState(
            params, (), {"layer": {"kernel": None}}, None, (), (), jnp.int32(0), jnp.int32(-1), key
        )

    def step(state, data, indices, epoch):
        values, seen = jnp.arange(3.0), jnp.ones(3, bool)
        good = StepMetrics(*jnp.ones(3), *(values,) * 3, seen, seen.at[2].set(False))
        params = {"layer": {"kernel": state.params["layer"]["kernel"] + 1}}
        metrics, params = jax.tree.map(
            lambda bad, good: jnp.where(state.step == at, bad, good),
            spoil(good, params),
            (good, params),
        )
        if sets:
            pairs = zip(good[3:-1], metrics[3:-1], strict=True)
            metrics = StepMetrics(
                *metrics[:3], *(dict(zip(sets, pair, strict=True)) for pair in pairs)
            )
        return state._replace(params=params, step=state.step + 1, epoch=epoch), metrics

    return FakeTrainer(init, step)


def spoiled(name, value, which=None):
    """Sets one number of the metrics."""

    def spoil(metrics, params):
        old = getattr(metrics, name)
        new = jnp.asarray(value) if which is None else old.at[which].set(value)
        return metrics._replace(**{name: new}), params

    return spoil


def spoiled_weight(metrics, params):
    return metrics, {"layer": {"kernel": params["layer"]["kernel"].at[1].set(jnp.nan)}}


def run(trainer, names=NAMES, on_step=lambda *args: None):
    """The epochs that were reached."""
    ends = training.run_epochs(
        trainer,
        trainer.init(None, jax.random.key(0)),
        DATA,
        num_epochs=3,
        batch_size=2,
        key=jax.random.key(1),
        constraint_names=names,
        on_step=on_step,
    )
    return [epoch for epoch, _ in ends]


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (
            spoiled("loss", jnp.nan),
            "loss is nan at step 4 (epoch 1). Lower optimizer.learning_rate",
        ),
        (spoiled("lagrangian", jnp.inf), "lagrangian is inf at step 4 (epoch 1)."),
        (spoiled("proxy", jnp.nan, 1), "proxy of group 'b' is nan at step 4 (epoch 1)."),
        (spoiled("violation", -jnp.inf, 2), "violation of group 'c' is -inf at step 4 (epoch 1)."),
        (
            spoiled("multipliers", jnp.inf, 0),
            "multipliers of group 'a' is inf at step 4 (epoch 1).",
        ),
        (spoiled_weight, "weight layer/kernel at the end of epoch 1."),
    ],
)
def test_the_error_names_what_where_and_when_and_keeps_the_last_good_state(spoil, text):
    seen = []
    with pytest.raises(training.DivergedError) as error:
        run(fake_trainer(spoil, 4), on_step=lambda step, epoch, metrics: seen.append((step, epoch)))
    assert str(error.value).startswith(text)
    expected = [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)]
    assert seen == expected[: 6 if spoil is spoiled_weight else 4]
    epoch, state = error.value.last_good
    assert epoch == state.epoch == 0 and state.step == 3
    np.testing.assert_array_equal(state.params["layer"]["kernel"], [3, 3])


def test_the_first_step_may_already_diverge():
    with pytest.raises(training.DivergedError, match=r"at step 0 \(epoch 0\)") as error:
        run(fake_trainer(spoiled("loss", jnp.nan), 0))
    assert error.value.last_good.epoch == -1
    np.testing.assert_array_equal(error.value.last_good.state.params["layer"]["kernel"], [0, 0])


def test_the_last_step_is_looked_at_too():
    with pytest.raises(training.DivergedError, match=r"at step 8 \(epoch 2\)") as error:
        run(fake_trainer(spoiled("loss", jnp.nan), 8))
    assert error.value.last_good.epoch == 1


@pytest.mark.parametrize(
    "spoil", [spoiled("proxy", jnp.nan, 2), lambda metrics, params: (metrics, params)]
)
def test_what_was_not_observed_may_be_anything(spoil):
    assert run(fake_trainer(spoil, 4)) == [0, 1, 2]


def test_the_cause_is_named_before_its_effects():
    def spoil(metrics, params):
        names = ("loss", "lagrangian", "multipliers", "violation", "proxy")
        return metrics._replace(
            **{name: jnp.nan * getattr(metrics, name) for name in names}
        ), params

    with pytest.raises(training.DivergedError, match="proxy of every observed group is nan at"):
        run(fake_trainer(spoil, 4))


def test_constraints_without_names_are_numbered():
    with pytest.raises(training.DivergedError, match="proxy of constraint 1 is nan"):
        run(fake_trainer(spoiled("proxy", jnp.nan, 1), 4), names=())


def test_several_sets_of_constraints():
    trainer = fake_trainer(spoiled("proxy", jnp.nan, 1), 4, sets=("gap", "loss"))
    names = {"gap": NAMES, "loss": ("d", "e", "f")}
    with pytest.raises(training.DivergedError, match="proxy of group 'e' is nan at step 4"):
        run(trainer, names)
    with pytest.raises(training.DivergedError, match="proxy of constraint 1 is nan at step 4"):
        run(trainer, {"gap": NAMES})


def test_several_sets_without_names():
    trainer = fake_trainer(spoiled("proxy", jnp.nan, 1), 4, sets=("gap", "loss"))
    with pytest.raises(training.DivergedError, match="proxy of constraint 1 is nan at step 4"):
        run(trainer, names=())


def test_where_a_tree_is_not_finite():
    good = {"a": {"w": jnp.ones(2)}, "b": [jnp.zeros(()), jnp.arange(3)]}
    assert finite.in_tree(good) == ""
    assert finite.in_tree(good | {"b": [jnp.float32(-jnp.inf), jnp.arange(3)]}) == "b/0"
    assert finite.in_tree(good | {"a": {"w": jnp.array([1, jnp.nan])}}) == "a/w"


def diverge(problem, trainer, epochs=3, key=1):
    """The error of a run that cannot go well."""
    with pytest.raises(training.DivergedError) as error:
        for _ in training.run_epochs(
            trainer,
            trainer.init(problem.variables, jax.random.key(0)),
            problem.train,
            num_epochs=epochs,
            batch_size=problem.train.size,
            key=jax.random.key(key),
            constraint_names=NAMES,
            group_names=NAMES,
        ):
            pass
    return error.value


def spoiled_sample(group):
    """A problem in which one sample of a group makes the network's output NaN."""
    problem = tiny()
    row = int(np.argmax(np.asarray(problem.train.group_ids)[:, 0] == group))
    inputs = problem.train.inputs.at[row].set(jnp.nan)
    return problem._replace(train=problem.train._replace(inputs=inputs))


@functools.cache
def hasty(method):
    """Its steps are far too long."""
    return trainer_of(tiny(), settings_of(method), learning_rate=1e30)


def test_a_real_run_names_the_group_that_went_wrong():
    problem = spoiled_sample(2)
    error = diverge(problem, hasty("floor"))
    assert "proxy of group 'c' is nan at step 0 (epoch 0)" in str(error)


def test_no_other_group_is_blamed():
    """The overall loss, which every proxy of CEAG holds, is spoiled as well."""
    problem = spoiled_sample(2)
    error = diverge(problem, hasty("ceag"))
    assert "'a'" not in str(error) and "'b'" not in str(error)
    assert "loss of a sample of group 'c' is not finite and the mean nan at step 0" in str(error)


def test_a_step_that_is_far_too_long():
    """The first one, of an epoch, ends at finite weights; the second meets them."""
    error = diverge(tiny(), hasty("floor"), epochs=9)
    assert "proxy of every observed group is nan at step 1 (epoch 1)" in str(error)
    assert error.last_good.epoch == 0
    params = error.last_good.state.params
    assert finite.in_tree(params) == ""
    assert min(np.abs(leaf).max() for leaf in jax.tree.leaves(params)) > 1e20


def test_named_sets_train():
    problem = tiny()
    constraint = combine(
        {
            "gap": excess_accuracy_gap(problem.reference, 0.01, buffer_size=2),
            "kl": group_distillation(problem.reference, 0.0, buffer_size=2),
        }
    )
    dual = {"gap": optax.sgd(0.1), "kl": lagrangian.quadratic_penalty(1.0)}
    trainer = training.make_trainer(
        problem.model,
        lagrangian.dual_primal(optax.sgd(0.1), dual),
        constraint,
        training.no_pruning(),
    )
    rows = []
    ends = training.run_epochs(
        trainer,
        trainer.init(problem.variables, jax.random.key(0)),
        problem.train,
        num_epochs=2,
        batch_size=15,
        key=jax.random.key(1),
        constraint_names=constraint.names(NAMES),
        on_step=lambda step, epoch, metrics: rows.append(metrics),
    )
    assert [end.epoch for end in ends] == [0, 1] and len(rows) == 4
    assert set(rows[-1].multipliers) == set(rows[-1].proxy_mask) == {"gap", "kl"}
    assert np.any(rows[-1].multipliers["gap"]) and np.any(rows[-1].multipliers["kl"])
