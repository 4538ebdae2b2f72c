"""Which combinations the default tests take: every two values meet, and few are enough."""

import itertools

import pytest

from tests import covering


@pytest.mark.parametrize(
    ("sizes", "most"), [((5, 3, 4), 24), ((15, 2, 2, 7), 120), ((3,), 3), ((2, 2, 2), 4)]
)
def test_every_two_values_meet(sizes, most):
    everything = list(itertools.product(*map(range, sizes)))
    found = covering.chosen(everything)
    assert len(found) == len(set(found)) <= most
    for one, other in itertools.combinations(range(len(sizes)), 2):
        met = {(combination[one], combination[other]) for combination in found}
        assert met == set(itertools.product(range(sizes[one]), range(sizes[other])))
    assert {combination[0] for combination in found} == set(range(sizes[0]))


def test_what_is_impossible_is_not_asked_for():
    allowed = [pair for pair in itertools.product("abc", "xy") if pair != ("a", "x")]
    assert covering.chosen(allowed) == allowed


def test_what_is_left_out_is_slow():
    everything = list(itertools.product("ab", "xy", "uv"))
    params = covering.every_pair(everything)
    assert [param.values for param in params] == everything
    quick = [param.values for param in params if not param.marks]
    assert sorted(quick) == sorted(covering.chosen(everything)) and len(quick) == 4
    assert params[1].id == "a-x-v"
    assert {mark.name for param in params for mark in param.marks} == {"slow"}
