"""Convex problems with solutions from NumPy: active-set enumeration and linear systems."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.constraints import constraint_values
from bap_jax.lagrangian import Evaluation, Problem
from tests.lagrangian.problems import toy_2d


class Solved(NamedTuple):
    """A problem of a vector, and where its saddle point is.

    Attributes:
      problem: of `params` `(dimension,)`.
      sizes: number of constraints, or a dict by name.
      params: `(dimension,)` x*.
      multipliers: `(constraint,)` λ*, or a dict by name.
    """

    problem: Problem
    sizes: Any
    params: np.ndarray
    multipliers: Any


HALF_SPACES = np.array(
    [[-1.0, -1, 0, 0], [0, -1, -1, 0], [1, 0, 0, -1], [0, 1, 1, 1], [-1, 0, 0, -1]]
)
LIMITS = np.array([-2, -1.5, 0, 5, 1])
PLANE, LEVEL = np.array([[1.0, -1, 0, 1]]), np.array([1.0])


def least_norm(half_spaces, limits, plane, level, softness=0.0):
    """min ‖x‖² s.t. Ax ≤ b, Ex = d: x*, λ*, μ*, by trying every set of active constraints.

    A quadratic penalty κ in place of multipliers leaves h = λ/κ: softness is 1/κ.
    """
    for size in range(len(limits) + 1):
        for active in itertools.combinations(range(len(limits)), size):
            rows = np.vstack([half_spaces[list(active)], plane])
            right = np.concatenate([limits[list(active)], level])
            # 2x + rowsᵀ λ = 0 and rows x − right = softness λ
            system = rows @ rows.T + 2 * softness * np.eye(len(right))
            multipliers = np.linalg.solve(system, -2 * right)
            x = -rows.T @ multipliers / 2
            inactive = np.delete(half_spaces @ x - limits, active)
            if (inactive <= 1e-9).all() and (multipliers[:size] >= 0).all():
                full = np.zeros(len(limits))
                full[list(active)] = multipliers[:size]
                return x, full, multipliers[size:]
    raise ValueError("no point meets the constraints")


def two_sets(softness=0.0):
    """min ‖x‖² s.t. "inequality" Ax ≤ b (some active, some not) and "equality" Ex = d."""
    x, inequality, equality = least_norm(HALF_SPACES, LIMITS, PLANE, LEVEL, softness)

    def problem(x):
        sets = {
            "inequality": constraint_values(HALF_SPACES @ x - LIMITS),
            "equality": constraint_values(PLANE @ x - LEVEL, equality=True),
        }
        return Evaluation(x @ x, sets)

    multipliers = {"inequality": inequality, "equality": equality}
    return Solved(problem, {"inequality": len(LIMITS), "equality": len(LEVEL)}, x, multipliers)


def inequalities():
    """min ‖x‖² s.t. Ax ≤ b."""
    x, multipliers, _ = least_norm(HALF_SPACES, LIMITS, PLANE[:0], LEVEL[:0])

    def problem(x):
        return Evaluation(x @ x, constraint_values(HALF_SPACES @ x - LIMITS))

    return Solved(problem, len(LIMITS), x, multipliers)


def equalities():
    """min ½‖x − t‖² s.t. Ex = d, with multipliers of either sign."""
    rows = np.array([[1.0, 1, 0], [0, 1, -1]])
    level, target = np.array([1.0, 2]), np.array([2.0, 1, 0.5])
    multipliers = np.linalg.solve(rows @ rows.T, rows @ target - level)

    def problem(x):
        constraints = constraint_values(rows @ x - level, equality=True)
        return Evaluation(0.5 * jnp.sum((x - target) ** 2), constraints)

    return Solved(problem, 2, target - rows.T @ multipliers, multipliers)


def toy():
    """One curved and one straight constraint, the curved one inactive."""
    return Solved(toy_2d(), 2, np.array([2 / 3, 1 / 3]), np.array([4 / 3, 0]))


def side_by_side():
    """`two_sets`, `equalities` and `toy` in one vector, all constraints in one unnamed set."""
    parts = [two_sets(), equalities(), toy()]
    cuts = np.cumsum([len(part.params) for part in parts])[:-1]
    ordered = [part.multipliers for part in parts]
    ordered[0] = np.concatenate([ordered[0]["inequality"], ordered[0]["equality"]])
    multipliers = np.concatenate(ordered)

    def problem(x):
        pieces = jnp.split(x, cuts)
        first, *others = (part.problem(piece) for part, piece in zip(parts, pieces, strict=True))
        sets = [first.constraints["inequality"], first.constraints["equality"]]
        sets += [one.constraints for one in others]
        equality = np.concatenate([np.full(one.violation.shape, one.equality) for one in sets])
        violation = jnp.concatenate([one.violation for one in sets])
        loss = first.loss + sum(one.loss for one in others)
        return Evaluation(loss, constraint_values(violation, equality=equality))

    params = np.concatenate([part.params for part in parts])
    return Solved(problem, len(multipliers), params, multipliers)


def starts(solved, number=4, scale=1.0):
    """`(number, dimension)` points to start from."""
    points = np.random.default_rng(0).normal(size=(number, len(solved.params)))
    return jnp.asarray(scale * points, jnp.float32)


def solve(scheme, solved, points, steps):
    """Last params and multipliers, with a leading axis of starting points."""

    @jax.jit
    @jax.vmap
    def run(params):
        state = scheme.init(params, solved.sizes)

        def body(carry, _):
            return scheme.update(solved.problem, *carry)[:2], None

        (params, state), _ = jax.lax.scan(body, (params, state), length=steps)
        return params, state.multipliers

    return run(points)


def assert_found(found, expected, atol):
    """Compares trees of arrays; `found` has a leading axis of starting points."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        one = np.asarray(one)
        np.testing.assert_allclose(one, np.broadcast_to(other, one.shape), rtol=0, atol=atol)
