"""Runs of one program are the single runs, a device epoch is the loop, devices change nothing."""

import dataclasses

import jax
import numpy as np
import pytest

from bap_jax import pipeline, training
from bap_jax.errors import UserError
from bap_jax.training import Execution
from bap_jax.training.settings import DualSettings, PruningSettings, Settings

SETTINGS = Settings(
    batch_size=100,  # eight devices do not divide it, and the last batch is ragged
    pruning=PruningSettings(epochs=2, prunable="kernels"),
    dual=DualSettings("ascent", learning_rate=0.7),
    finetune_epochs=2,
)


def member(seed, tolerance=0.01, sparsity=0.95, rate=0.01, dual_rate=0.7, start=0.0, **others):
    return dataclasses.replace(
        SETTINGS,
        seed=seed,
        tolerance=tolerance,
        optimizer=dataclasses.replace(SETTINGS.optimizer, learning_rate=rate),
        dual=dataclasses.replace(SETTINGS.dual, learning_rate=dual_rate, start=start),
        pruning=dataclasses.replace(SETTINGS.pruning, sparsity=sparsity, **others),
    )


OTHER_PRUNERS = ("snip", "global_magnitude", "random", "set", "channels")
MEMBERS = [
    member(0),
    member(1, tolerance=0.0, sparsity=0.9),
    member(2, rate=0.05, dual_rate=0.1),
    member(3, start=0.125, sparsity=0.5),
]
AUTO_MEMBERS = [
    dataclasses.replace(one, dual=DualSettings(bound=bound))
    for one, bound in zip(MEMBERS, (np.inf, 2.0, 0.01), strict=False)
]


def run(digits_splits, small_dense, runs, **how):
    """Outcomes and rows of each member."""
    context = pipeline.make_context(*small_dense, digits_splits, Execution(**how))
    rows = [[] for _ in runs]
    tuner = pipeline.make_tuner(context, runs[0])
    return tuner.run(runs, [row.append for row in rows]), rows


@pytest.fixture(scope="module")
def single(digits_splits, small_dense):
    """Each member by itself, an epoch a program."""
    return run(digits_splits, small_dense, MEMBERS, members="single", epoch="device")


@pytest.fixture(scope="module")
def single_auto(digits_splits, small_dense):
    """The same with the usual rule of the multipliers."""
    return run(digits_splits, small_dense, AUTO_MEMBERS, members="single", epoch="device")


def assert_same(found, expected):
    for one, other in zip(found[0], expected[0], strict=True):
        for which in ("pruned", "last"):
            a, b = getattr(one, which), getattr(other, which)
            assert a.epoch == b.epoch
            assert a.score == pytest.approx(b.score, abs=1e-6)
            jax.tree.map(np.testing.assert_array_equal, a.masks, b.masks)
            close = lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)  # noqa: E731
            jax.tree.map(close, a.variables, b.variables)
        assert one.unconstrained == other.unconstrained
    for rows, others in zip(found[1], expected[1], strict=True):
        assert [row.keys() for row in rows] == [row.keys() for row in others]
        for key in ("loss", "accuracy", "sum_multipliers", "sparsity"):
            pairs = [(r[key], o[key]) for r, o in zip(rows, others, strict=True) if key in r]
            np.testing.assert_allclose(*zip(*pairs, strict=True), atol=1e-4)


@pytest.mark.parametrize(
    ("how", "count"),
    [  # where members run one after another, the first of them are enough
        ({"members": "vmap"}, 4),
        ({"members": "map"}, 2),
        ({"epoch": "loop"}, 2),
        ({"members": "single", "devices": 8}, 1),
        ({"epoch": "loop", "devices": 8}, 1),
        ({"members": "vmap", "devices": 3, "spread": "members"}, 4),  # which do not divide them
        pytest.param(
            {"members": "map", "devices": 4, "spread": "members"}, 4, marks=pytest.mark.slow
        ),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_however_it_runs_it_is_the_same_run(digits_splits, small_dense, single, how, count):
    found = run(digits_splits, small_dense, MEMBERS[:count], **how)
    assert_same(found, [rows[:count] for rows in single])


@pytest.mark.parametrize(
    ("how", "count"),
    [
        ({"members": "vmap"}, 3),
        ({"epoch": "loop", "devices": 8}, 1),
        pytest.param(
            {"members": "vmap", "devices": 2, "spread": "members"}, 3, marks=pytest.mark.smoke
        ),
        pytest.param({"members": "map"}, 3, marks=pytest.mark.slow),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_however_it_runs_by_the_usual_rule(digits_splits, small_dense, single_auto, how, count):
    found = run(digits_splits, small_dense, AUTO_MEMBERS[:count], **how)
    assert_same(found, [rows[:count] for rows in single_auto])
    last = [rows[-1]["multipliers"] for rows in single_auto[1]]
    assert max(last[0]) > 0.01 >= max(last[2]) > 0  # the last one's bound


@pytest.mark.parametrize(
    "algorithm",
    [pytest.param(name, marks=pytest.mark.slow) for name in OTHER_PRUNERS],
)
def test_members_of_other_pruners(digits_splits, small_dense, algorithm):
    members = [
        member(seed, sparsity=sparsity, algorithm=algorithm)
        for seed, sparsity in ((0, 0.9), (1, 0.6))
    ]
    found = [run(digits_splits, small_dense, members, members=how) for how in ("vmap", "single")]
    assert_same(*found)
    kept = [
        sum(int(mask.sum()) for mask in jax.tree.leaves(tuned.last.masks)) for tuned in found[0][0]
    ]
    assert kept[0] < kept[1]


def test_a_member_that_diverges_leaves_the_others_alone(digits_splits, small_dense, single):
    members = [MEMBERS[0], member(5, rate=1e30), MEMBERS[3]]
    outcomes, rows = run(digits_splits, small_dense, members, members="vmap")
    assert isinstance(outcomes[1], training.DivergedError)
    assert "step" in str(outcomes[1]) and outcomes[1].last_good.epoch == -1
    assert len(rows[1]) < len(rows[0])
    kept = [outcomes[0], outcomes[2]], [rows[0], rows[2]]
    assert_same(kept, ([single[0][0], single[0][3]], [single[1][0], single[1][3]]))


ONE_STEP = dataclasses.replace(SETTINGS, batch_size=2000)  # an epoch


def last_good(digits_splits, small_dense, **how):
    """The last good epoch and state of a member that diverges in the second epoch, among others."""
    hasty, other = (
        dataclasses.replace(one, batch_size=ONE_STEP.batch_size)
        for one in (member(5, rate=1e30), member(0))
    )
    outcomes, rows = run(digits_splits, small_dense, [other, hasty, other], **how)
    assert isinstance(outcomes[1], training.DivergedError)
    assert "step 1 (epoch 1)" in str(outcomes[1])
    assert [row["epoch"] for row in rows[1] if "step" not in row] == [0]
    for outcome in (outcomes[0], outcomes[2]):
        assert outcome.last.epoch == ONE_STEP.epochs - 1
    return outcomes[1].last_good


@pytest.fixture(scope="module")
def good_of_one(digits_splits, small_dense):
    return last_good(digits_splits, small_dense, members="single", epoch="device")


@pytest.mark.smoke
@pytest.mark.parametrize(
    "how",
    [
        {"members": "vmap"},
        {"members": "map"},
        {"epoch": "loop"},
        {"members": "vmap", "devices": 8},
        {"members": "map", "devices": 3, "spread": "members"},
    ],
    ids=lambda how: "-".join(map(str, how.values())),
)
def test_the_last_good_state_is_that_of_the_epoch_before(
    digits_splits, small_dense, good_of_one, how
):
    """Although the epochs that came after it have overwritten it on the device."""
    good = last_good(digits_splits, small_dense, **how)
    assert good.epoch == good_of_one.epoch == 0
    state, expected = good.state, good_of_one.state
    assert state.step == expected.step == 1 and state.epoch == 0
    assert training.finite.in_tree(state) == ""
    jax.tree.map(np.testing.assert_array_equal, state.masks, expected.masks)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e24)  # noqa: E731
    for name in ("params", "lagrangian"):
        jax.tree.map(close, getattr(state, name), getattr(expected, name))
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(state.params)) > 1e26
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(state.params))


def test_when_all_members_have_diverged_no_epoch_is_started(digits_splits, small_dense):
    context = pipeline.make_context(*small_dense, digits_splits, Execution())
    started = []

    def count(epochs):
        for epoch in epochs:
            started.append(epoch)
            yield epoch

    [outcome] = pipeline.make_tuner(context, MEMBERS[0]).run([member(0, rate=1e30)], None, count)
    assert isinstance(outcome, training.DivergedError)
    assert started == [0, 1]  # the second was started before the first one's numbers came


def test_members_that_cannot_share_a_program(digits_splits, small_dense):
    context = pipeline.make_context(*small_dense, digits_splits, Execution(members="vmap"))
    tuner = pipeline.make_tuner(context, MEMBERS[0])
    with pytest.raises(UserError, match="may differ in seed, pruning.sparsity, tolerance"):
        tuner.run([MEMBERS[0], dataclasses.replace(MEMBERS[1], method="nft")])


def test_a_program_is_traced_once_for_all_its_members(digits_splits, small_dense, monkeypatch):
    built, make = [], pipeline.tuner.trainer_from_settings
    monkeypatch.setattr(
        pipeline.tuner, "trainer_from_settings", lambda *args: built.append(args) or make(*args)
    )
    context = pipeline.make_context(*small_dense, digits_splits, Execution(members="vmap"))
    tuner = pipeline.make_tuner(context, MEMBERS[0])
    tuner.run(MEMBERS[:2])
    count = len(built)
    tuner.run(MEMBERS[2:])
    assert count and len(built) == count


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"epoch": "fast"}, "unknown epoch 'fast'; known: auto, device, loop"),
        ({"members": "all"}, "unknown members 'all'; known: auto, vmap, map, single"),
        ({"spread": "rows"}, "unknown spread 'rows'; known: data, members"),
        ({"chunk": -1}, "chunk must be ≥ 0"),
    ],
)
def test_mistakes_in_the_choices(options, text):
    with pytest.raises(UserError, match=text):
        Execution(**options)


def test_choices_that_do_not_go_together(digits_splits, small_dense):
    with pytest.raises(UserError, match="needs an epoch on the device"):
        pipeline.make_context(*small_dense, digits_splits, Execution(epoch="loop", members="vmap"))
    with pytest.raises(UserError, match="spread='members' needs members of one program"):
        pipeline.make_context(
            *small_dense, digits_splits, Execution(epoch="loop", spread="members")
        )
    with pytest.raises(UserError, match=r"devices must lie in \[1, 8\]"):
        pipeline.make_context(*small_dense, digits_splits, Execution(devices=9))
