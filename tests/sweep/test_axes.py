"""The text of an axis: every kind of value, and every mistake before anything runs."""

import math

import pytest

from bap_jax.errors import UserError
from bap_jax.sweep import Axis
from bap_jax.sweep.axes import file_axes, make_axis, merge_axes, parse_axis


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("seed=0:4", (0, 1, 2, 3)),
        ("seed=8:0:-3", (8, 5, 2)),
        ("seed=0:2, 10", (0, 1, 10)),
        ("seed=3", (3,)),
        ("tolerance=0.0,0.01,1e-1", (0.0, 0.01, 0.1)),
        ("tolerance=0,1", (0.0, 1.0)),
        ("dual.bound=1,inf", (1.0, math.inf)),
        ("method=nft,ceag", ("nft", "ceag")),
        ("data.group_by='digit','digit,ink',\"ink\"", ("digit", "digit,ink", "ink")),
        ("pruning.type=nm_2:4", ("nm_2:4",)),
        ("dual.restart=true,False", (True, False)),
        ("model.hidden=(32,32),(64,),[8],(16)", ((32, 32), (64,), (8,), (16,))),
        ("optimizer.milestones=(0.5,0.75),()", ((0.5, 0.75), ())),
    ],
)
def test_values(text, values):
    axis = parse_axis(text)
    assert axis == Axis(text.partition("=")[0], values)
    assert list(map(type, axis.values)) == list(map(type, values))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "--sweep=seed has no values; write --sweep=KEY=VALUE"),
        ("sede=1", "unknown config key config.sede; known keys: .*config.seed"),
        ("dual.rate=1", "unknown config key config.dual.rate; known keys: config.dual.bound"),
        ("dual.start.x=1", "config.dual.start.x; known keys: none below it"),
        ("=1", "unknown config key config.; known keys"),
        ("optimizer=1", "optimizer is a section of the config; its keys: optimizer.beta1, "),
        ("seed=", "seed has an empty value in ''; write integers, as in 0,1,2 or 0:8"),
        ("seed=1,,2", "seed has an empty value in '1,,2'"),
        ("seed=1,", "empty value"),
        ("seed=a", "seed got 'a'; write integers, as in 0,1,2 or 0:8"),
        ("seed=0.5", "seed got 0.5; write integers"),
        ("seed=true", "seed got True; write integers"),
        ("seed=5:5", "seed has an empty range 5:5; START:STOP excludes STOP"),
        ("seed=0:5:0", "empty range 0:5:0"),
        ("seed=0:1.5", "seed got '0:1.5'; write integers"),
        ("tolerance=x", "tolerance got 'x'; write numbers, as in 0.0,0.01"),
        ("tolerance=nan", "tolerance got nan; write numbers"),
        ("tolerance=true", "tolerance got True"),
        ("dual.restart=1", "dual.restart got 1; write true or false"),
        (
            "model.hidden=32,64",
            r"hidden got 32; write lists in brackets, each of integers.*\(256,\),",
        ),
        ("model.hidden=(32,a)", r"hidden got '\(32,a\)'; write lists in brackets"),
        ("model.hidden=(0.5,)", "hidden got 0.5; write lists"),
        ("model.hidden=(32,", "hidden has an unmatched bracket or quote in"),
        ("seed=0:3,2", "seed has the value 2 twice"),
        ("tolerance=0,0.0", "tolerance has the value 0.0 twice"),
    ],
)
def test_mistakes(text, message):
    with pytest.raises(UserError, match=message):
        parse_axis(text)


def test_a_config_file_may_bring_axes(tmp_path):
    file = tmp_path / "config.py"
    file.write_text(
        "SEEDS = '0:2'\n"
        "def get_sweep():\n"
        "    return {'seed': SEEDS, 'model.hidden': [(8,), [8, 8]], 'tolerance': range(2)}\n"
    )
    seeds, hidden, tolerance = file_axes(file)
    assert seeds == Axis("seed", (0, 1))
    assert hidden == Axis("model.hidden", ((8,), (8, 8)))
    assert tolerance == Axis("tolerance", (0.0, 1.0))
    file.write_text("")
    assert file_axes(file) == ()
    file.write_text("def get_sweep():\n    return ['seed']\n")
    with pytest.raises(UserError, match=r"get_sweep\(\) of .* must return a dict.*got \['seed'\]"):
        file_axes(file)


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("seed", 3, "seed must be a list of values or a text such as '0:8'; got 3"),
        ("seed", [], "seed has no values; write integers"),
        ("seed", ["1"], "seed got '1'; write integers"),
        (3, [1], "the key of an axis must be a string"),
    ],
)
def test_mistakes_in_a_config_file(key, values, message):
    with pytest.raises(UserError, match=message):
        make_axis(key, values)


def test_the_command_line_wins():
    file = [Axis("seed", (0, 1)), Axis("method", ("nft",))]
    flags = [Axis("tolerance", (0.1,)), Axis("seed", (5,))]
    assert merge_axes(file, flags) == (flags[1], file[1], flags[0])
    with pytest.raises(UserError, match="seed is given twice; .* one --sweep=seed="):
        merge_axes(file, [Axis("seed", (1,)), Axis("seed", (2,))])
    with pytest.raises(UserError, match="a sweep needs an axis; write --sweep=KEY"):
        merge_axes([], [])
