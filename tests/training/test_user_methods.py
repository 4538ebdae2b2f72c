"""Methods that users add from outside: by every way, in every kind of run, and their mistakes."""

import dataclasses
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bap_jax
from bap_jax import pipeline, sweep
from bap_jax.config import default_config
from bap_jax.errors import UserError
from bap_jax.training import Execution, Settings, check_settings
from bap_jax.training.methods import METHODS, build_method, method_name
from bap_jax.training.settings import DualSettings, PruningSettings
from bap_jax.training.values import structure_of
from tests.training import my_methods
from tests.training.tiny import dual_of, settings_of, tiny, trainer_of
from tests.tuning import prune_and_tune

MODULE = "tests.training.my_methods"


@pytest.fixture
def registry():
    """The methods; what a test registers is forgotten after it."""
    before = dict(METHODS)
    yield METHODS
    METHODS.clear()
    METHODS.update(before)


def a_step(settings):
    """State and metrics after one step on half the samples, from a network unlike the dense one."""
    trainer = trainer_of(tiny(), settings)
    params = jax.tree.map(lambda leaf: 0.5 * leaf, tiny().variables.params)
    state = trainer.init(tiny().variables._replace(params=params), jax.random.key(0))
    return jax.jit(trainer.step)(state, tiny().train, jnp.arange(15), 0)


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if not jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(a, b)


def ways():
    """Each way to hand a method over, with the name in reports."""
    settings = settings_of("floor")
    built = my_methods.floor_method(tiny().reference, settings)
    return [
        ("mine", "mine"),
        (f"{MODULE}:floor_method", f"{MODULE}:floor_method"),
        (f"{MODULE}:floor_constraint", f"{MODULE}:floor_constraint"),
        (my_methods.floor_method, "floor_method"),
        (my_methods.floor_constraint, "floor_constraint"),
        (built, "my_floor"),
        (built._replace(name=""), "custom"),
        (my_methods.floor_constraint(tiny().reference, settings), "custom"),
    ]


@pytest.mark.parametrize("way", range(len(ways())))
def test_a_copy_of_a_method_is_that_method(way, registry):
    bap_jax.register_method("mine", my_methods.floor_method)
    method, name = ways()[way]
    original = settings_of("floor")
    settings = dataclasses.replace(original, method=method)
    check_settings(settings)
    assert method_name(method) == name
    assert build_method(tiny().reference, settings).is_constrained
    assert_same(a_step(settings), a_step(original))


def test_a_copy_by_the_usual_rule():
    """It does not say that its constraints name their units, so its state is larger."""
    original = settings_of("floor", estimator="plain", dual=DualSettings())
    copy = dataclasses.replace(original, method=my_methods.floor_constraint)
    (one, metrics), (other, others) = a_step(copy), a_step(original)
    assert metrics.multipliers.max() > 0
    for a, b in ((one.params, other.params), (metrics, others)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), a, b)


@pytest.mark.parametrize("min_group_size", [1, 10])
def test_small_groups_are_left_out_of_a_users_method(min_group_size):
    settings = settings_of(my_methods.floor_constraint, min_group_size=min_group_size)
    _, metrics = a_step(settings)
    np.testing.assert_array_equal(
        metrics.proxy_mask, np.array(tiny().reference.count) >= min_group_size
    )


@pytest.mark.parametrize("rule", ["ascent", "auto"])
def test_constraints_that_are_not_one_a_group_are_not_left_out(rule):
    settings = settings_of(my_methods.single_constraint, dual=dual_of(rule), min_group_size=100)
    _, metrics = a_step(settings)
    assert metrics.proxy_mask.tolist() == [True]
    assert metrics.multipliers.shape == (1,) and metrics.multipliers > 0


@pytest.mark.parametrize("rule", ["ascent", "auto"])
def test_several_sets_of_constraints(rule):
    _, metrics = a_step(settings_of(my_methods.two_sets, dual=dual_of(rule), min_group_size=10))
    assert {name: mask.tolist() for name, mask in metrics.proxy_mask.items()} == {
        "floor": [True, True, False],
        "gap": [True, True, False],
    }
    assert all((metrics.multipliers[name] > 0).any() for name in ("floor", "gap"))


QUICK = Settings(
    "floor",
    batch_size=100,
    pruning=PruningSettings(0.9, epochs=1, prunable="kernels"),
    dual=DualSettings("ascent", learning_rate=0.7),
    finetune_epochs=2,
)


def rows_of(context, members):
    """Rows of members of one program."""
    rows = [[] for _ in members]
    outcomes = pipeline.make_tuner(context, members[0]).run(members, [one.append for one in rows])
    return rows, outcomes


@pytest.fixture(scope="module")
def context(digits_splits, small_dense):
    return pipeline.make_context(*small_dense, digits_splits, Execution(members="vmap"))


@pytest.mark.smoke
def test_members_of_a_users_method_share_a_program(context):
    members = [
        dataclasses.replace(QUICK, seed=seed, tolerance=tolerance)
        for seed, tolerance in ((0, 0.0), (1, 0.02))
    ]
    users = [dataclasses.replace(one, method=my_methods.floor_method) for one in members]
    found, expected = rows_of(context, users)[0], rows_of(context, members)[0]
    for rows, others in zip(found, expected, strict=True):
        for row, other in zip(rows, others, strict=True):
            other.pop("min_group_weight", None)  # the copy does not say it
            assert row == other
    assert found[0][-1] != found[1][-1]


def test_runs_of_different_methods_do_not_share_a_program(context):
    users = [dataclasses.replace(QUICK, method=my_methods.floor_method) for _ in range(2)]
    assert structure_of(users[0]) == structure_of(dataclasses.replace(users[1], seed=3))
    other = dataclasses.replace(QUICK, method=my_methods.floor_constraint, batch_size=50)
    with pytest.raises(
        UserError,
        match=r"these differ in method \(floor_constraint and floor_method\), batch_size \(50 and",
    ):
        pipeline.make_tuner(context, users[0]).run([users[0], other])


def test_the_result_knows_all_constraints_of_several_sets(digits_splits, small_dense):
    settings = dataclasses.replace(
        QUICK,
        method=my_methods.two_sets,
        constraint=dataclasses.replace(QUICK.constraint, buffer_size=2, min_group_size=106),
    )
    tuned = prune_and_tune(*small_dense, digits_splits, settings)
    status = {row["name"]: row["status"] for row in tuned.feasibility["constraints"]}
    assert len(status) == 20 and {name.partition(":")[0] for name in status} == {"floor", "gap"}
    left_out = {name for name, value in status.items() if value == "left out"}
    assert left_out == {
        f"{one}: {name}" for one in ("floor", "gap") for name in tuned.unconstrained
    }
    assert tuned.unconstrained
    rows = {row["name"]: row for row in tuned.multipliers["constraints"]}
    assert {name for name, row in rows.items() if row["status"] == "left out"} == left_out
    assert rows.keys() == status.keys()


def test_a_single_constraint_is_reported(digits_splits, small_dense):
    settings = dataclasses.replace(QUICK, method=my_methods.single_constraint)
    tuned = prune_and_tune(*small_dense, digits_splits, settings)
    assert [row["name"] for row in tuned.feasibility["constraints"]] == ["the worst"]
    (row,) = tuned.multipliers["constraints"]
    assert row["name"] == "the worst" and row["worth"] is None
    assert row["multiplier"] == tuned.feasibility["constraints"][0]["multiplier"]


CONFIG_FILE = """
import bap_jax
from bap_jax import constraints


def lenient(reference, settings):
    return constraints.worst_group_floor(reference, 2 * settings.tolerance)


bap_jax.register_method("lenient", lenient)
"""


def test_a_config_file_may_be_read_twice(registry, tmp_path):
    (tmp_path / "config.py").write_text(CONFIG_FILE)
    for _ in range(2):
        runpy.run_path(str(tmp_path / "config.py"))
    (tmp_path / "config.py").write_text(CONFIG_FILE.replace("2 *", "3 *"))
    with pytest.raises(UserError, match="method 'lenient' exists already"):
        runpy.run_path(str(tmp_path / "config.py"))


def test_what_is_known_of_a_registered_method(registry):
    options = {"supports_switching": True, "supports_augmented": False, "description": "a copy"}
    bap_jax.register_method("mine", my_methods.floor_method, **options)
    unknown = {"follows_rule": False, "own_settings": ()}
    found = registry["mine"]._asdict()
    assert found == {"build": my_methods.floor_method, **options, **unknown}
    check_settings(Settings("mine", "switching"))
    with pytest.raises(UserError, match="bound that method 'mine' needs would not hold"):
        check_settings(Settings("mine", dual=DualSettings("augmented")))


def test_a_name_is_taken_once(registry):
    bap_jax.register_method("mine", my_methods.floor_method)
    bap_jax.register_method("mine", my_methods.floor_method)
    with pytest.raises(
        UserError, match=r"method 'mine' exists already; .* replace=True\). Known: nft, el, ceag"
    ):
        bap_jax.register_method("mine", my_methods.floor_constraint)
    bap_jax.register_method("mine", my_methods.floor_constraint, replace=True)
    assert registry["mine"].build is my_methods.floor_constraint
    with pytest.raises(UserError, match="method 'nft' exists already"):
        bap_jax.register_method("nft", my_methods.floor_method)


@pytest.mark.parametrize(
    ("name", "build", "text"),
    [
        ("", my_methods.floor_method, "consists of letters, digits and _ . [+] -; got ''"),
        ("a:b", my_methods.floor_method, "consists of letters"),
        ("a,b", my_methods.floor_method, "consists of letters"),
        (3, my_methods.floor_method, "consists of letters, .*; got 3"),
        ("mine", "floor", "a method is a name, a function .*; got 'floor'"),
    ],
)
def test_mistakes_when_registering(name, build, text, registry):
    before = list(registry)
    with pytest.raises(UserError, match=text):
        bap_jax.register_method(name, build)
    assert list(registry) == before


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"method": "dro"},
            "unknown method 'dro'; known: nft, el, ceag, .*For your own write 'module:function', "
            r"or call bap_jax.register_method\(name, build\) first",
        ),
        ({"method": "no_such_module:f"}, "method 'no_such_module:f': No module named .*Expected M"),
        ({"method": f"{MODULE}:floo"}, "method '.*:floo': module .* has no attribute 'floo'"),
        ({"method": f"{MODULE}:"}, "Expected MODULE:FUNCTION"),
        ({"method": f"{MODULE}:nothing"}, "a method is a name, a function .*; got 3"),
        ({"method": None}, "a method is a name, a function .*; got None"),
        (
            {"method": my_methods.floor_method, "scheme": "switching"},
            "does not suit method 'floor_method'; methods it suits: nft, ceag, floor, "
            r"distillation. If it suits yours, .* register_method\(name, build, supports_switching",
        ),
    ],
)
def test_mistakes_in_settings(change, text):
    with pytest.raises(UserError, match=text):
        check_settings(dataclasses.replace(Settings(), **change))


def test_a_builder_must_return_a_method():
    with pytest.raises(
        UserError, match="'no_method' must return a Method or a Constraint; got NoneType"
    ):
        build_method(tiny().reference, settings_of(my_methods.no_method))


def test_a_builder_must_be_traceable(context):
    settings = dataclasses.replace(QUICK, method=my_methods.untraceable)
    tuner = pipeline.make_tuner(context, settings)
    with pytest.raises(
        UserError, match=r"method 'untraceable' cannot be traced: .*write jnp.where .* no float"
    ):
        tuner.run([settings])


def test_every_built_in_method_is_described():
    texts = [spec.description for spec in METHODS.values()]
    assert all(texts) and len(set(texts)) == len(texts)


@pytest.mark.smoke
def test_a_sweep_over_methods(tmp_path):
    config = default_config()
    config.model.hidden = (8,)
    config.dense.epochs = config.pruning.epochs = config.finetune_epochs = 1
    methods = ["floor", f"{MODULE}:floor_constraint"]
    rows = sweep.run_sweep(config, tmp_path / "w", {"method": methods, "seed": "0:2"})
    assert [row["report"]["method"] for row in rows] == [name for name in methods for _ in (0, 1)]
    built_in, users = rows[:2], rows[2:]
    for one, other in zip(built_in, users, strict=True):
        assert one["report"]["splits"] == other["report"]["splits"]
