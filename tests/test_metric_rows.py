"""Rows of `metrics.jsonl`: their keys, their numbers, and that they are JSON."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import metric_rows, reporting
from bap_jax.constraints import mean_loss, replay_buffer, unconstrained
from bap_jax.lagrangian import DualState, LagrangianState, gradient_ascent
from bap_jax.metric_rows import LISTED, epoch_row
from bap_jax.training.methods import Method
from bap_jax.training.state import StepMetrics, TrainState
from tests.step_rows import step_row

FORMULATION = gradient_ascent(optax.sgd(0.1))
PLAIN = Method(unconstrained(), FORMULATION, mean_loss)
WEIGHED = PLAIN._replace(group_weights=lambda frequency, multipliers: frequency - multipliers)
BASE_KEYS = {"step", "epoch", "loss", "accuracy"}
SUMMARY_KEYS = {
    "lagrangian",
    "sum_multipliers",
    "max_multiplier",
    "max_violation",
    "proxy_violation_correlation",
}
LIST_KEYS = {"multipliers", "violation", "proxy"}


def metrics(multipliers=(), violation=(), proxy=()):
    """On the host, NaN where not observed."""
    rows = [np.asarray(row, np.float32) for row in (multipliers, violation, proxy)]
    masks = [np.isfinite(row) for row in rows[1:]]
    return StepMetrics(*np.float32([0.5, 0.75, 0.625]), *rows, *masks)


def row_of(*args, method=PLAIN):
    found = step_row(7, 3, metrics(*args), np.float32([0.5, 0.3, 0.2]), method)
    assert "NaN" not in json.dumps(found) and "Infinity" not in json.dumps(found)
    assert json.loads(json.dumps(found)) == found
    return found


NAN = float("nan")


def test_a_method_without_constraints_has_four_numbers():
    assert row_of() == {"step": 7, "epoch": 3, "loss": 0.5, "accuracy": 0.75}


def test_keys_and_numbers_by_hand():
    found = row_of((0.5, 0.0, 0.25), (0.125, NAN, -0.5), (0.25, 1.0, NAN))
    assert found == {
        "step": 7,
        "epoch": 3,
        "loss": 0.5,
        "accuracy": 0.75,
        "lagrangian": 0.625,
        "sum_multipliers": 0.75,
        "max_multiplier": 0.5,
        "max_violation": 0.125,
        "proxy_violation_correlation": None,  # only the first was observed in both
        "multipliers": [0.5, 0.0, 0.25],
        "violation": [0.125, None, -0.5],
        "proxy": [0.25, 1.0, None],
    }


def test_the_least_group_weight_where_the_method_has_one():
    found = row_of((0.5, 0.0, 0.25), (0, 0, 0), (0, 0, 0), method=WEIGHED)
    assert found["min_group_weight"] == pytest.approx(0.2 - 0.25)
    assert set(found) == BASE_KEYS | SUMMARY_KEYS | LIST_KEYS | {"min_group_weight"}


@pytest.mark.parametrize(
    ("violation", "proxy", "expected"),
    [
        ((1, 2, 3), (10, 20, 30), 1),
        ((1, 2, 3), (3, 2, 1), -1),
        ((0, 1, 2), (1, 0, 1), 0),
        # Deviations (−1, 0, 1) and (−4, 2, 2) / 3: covariance 2, variances 2 and 24/9.
        ((0, 1, 2), (0, 2, 2), 2 / np.sqrt(2 * 24 / 9)),
        ((1, 2, NAN), (5, 9, 100), 1),  # over those observed in both
        ((1, 1, 1), (1, 2, 3), None),
        ((1, 2, 3), (4, 4, 4), None),
        ((1, NAN, NAN), (1, 2, 3), None),
        ((NAN, NAN, 3), (1, 2, NAN), None),
        ((NAN, NAN, NAN), (NAN, NAN, NAN), None),
    ],
)
def test_correlation_of_proxies_and_violations(violation, proxy, expected):
    found = row_of((0, 0, 0), violation, proxy)["proxy_violation_correlation"]
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-6))


def test_nothing_observed():
    found = row_of((0.5, 0.5, 0.5), (NAN,) * 3, (NAN,) * 3)
    assert found["max_violation"] is None and found["violation"] == [None] * 3


@pytest.mark.parametrize(("size", "listed"), [(LISTED, True), (LISTED + 1, False)])
def test_lists_are_left_out_where_they_are_long(size, listed):
    found = row_of(np.ones(size), np.arange(size), np.arange(size))
    keys = BASE_KEYS | SUMMARY_KEYS
    assert set(found) == (keys | LIST_KEYS if listed else keys)
    assert found["max_violation"] == size - 1 and LISTED == 100
    assert found["sum_multipliers"] == size


def test_several_sets_follow_one_another():
    one, other = metrics((0.5, 0.25), (0.125, NAN), (1, 2)), metrics((1, 0.5), (0.25, NAN), (2, 4))
    names = ("multipliers", "violation", "proxy", "violation_mask", "proxy_mask")
    sets = one._replace(
        **{name: {"b": getattr(one, name), "a": getattr(other, name)} for name in names}
    )
    found = step_row(0, 0, sets, np.float32([1.0]), PLAIN)
    assert found["multipliers"] == [0.5, 0.25, 1.0, 0.5]
    assert found["violation"] == [0.125, None, 0.25, None]
    assert found["max_violation"] == 0.25
    np.testing.assert_array_equal(metric_rows.flatten_sets(sets.proxy), [1, 2, 2, 4])


def state(constraint, multipliers=(0.5, 0.25)):
    """One layer of four weights, one of them gone, and a bias."""
    dual = DualState(jnp.asarray(multipliers, jnp.float32))
    return TrainState(
        params={"w": jnp.ones(4), "b": jnp.ones(4)},
        model_state=(),
        masks={"w": jnp.array([1, 1, 1, 0], jnp.uint8), "b": None},
        targets={"w": jnp.float32(0.25), "b": None},
        lagrangian=LagrangianState(dual, ()),
        constraint=constraint,
        step=jnp.int32(9),
        epoch=jnp.int32(2),
        key=jax.random.key(0),
    )


def epoch_of(constraint):
    found = epoch_row(
        2, metric_rows.epoch_numbers(state(constraint)), reporting.Score(0.875, 0.0625)
    )
    assert json.loads(json.dumps(found)) == found
    return found


def buffer(*batches):
    """A buffer of four groups after these batches of two ids."""
    found = replay_buffer.init(4, 2, bool)
    for ids in batches:
        found = replay_buffer.push(found, jnp.ones(2), jnp.array(ids)[:, None])
    return found


def test_epoch_row():
    assert epoch_of(()) == {
        "epoch": 2,
        "sparsity": 0.25,
        "sum_multipliers": 0.75,
        "multipliers": [0.5, 0.25],
        "validation_accuracy": 0.875,
        "validation_max_excess_gap": 0.0625,
    }


def test_staleness_of_the_buffer():
    """The newest values came in 0, 0, 1 and 2 pushes ago."""
    found = epoch_of(buffer((3, 3), (2, 2), (0, 1)))
    assert found["staleness"] == {"mean": 0.75, "max": 2}


def test_an_empty_buffer_has_no_age():
    assert "staleness" not in epoch_of(buffer())


def test_the_buffer_is_found_among_other_state():
    found = epoch_of({"loss": (), "gap": (buffer((0, 1), (2, 3)), jnp.ones(3))})
    assert found["staleness"] == {"mean": 0.5, "max": 1}
