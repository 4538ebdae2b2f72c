"""The saddle-point problem  min_θ max_λ  f(θ) + Σ_c λ_c h_c(θ)  and the interfaces of its solvers.

    symbol   name            what it is
    f        loss            the objective
    h_c      proxy           constraint c as the weights see it
    v_c      violation       constraint c as the multipliers see it
    λ_c      multipliers     one number a constraint; ≥ 0 for inequalities

A user writes a *problem*, a function of the parameters (and a batch) that returns an `Evaluation`.
A `Formulation` says how constraints enter the weights' objective and how multipliers move. A
`Scheme` says in which order the two players move, and may evaluate the problem where it likes.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import optax

from bap_jax._deprecated import warn
from bap_jax.constraints.base import ConstraintValues
from bap_jax.types import Array, Params, PyTree


class Evaluation(NamedTuple):
    """The problem at one point.

    Attributes:
      loss: `()` objective, differentiable.
      constraints: values of all constraints; several sets as a dict by name.
      aux: anything the caller wants back from the forward pass.
    """

    loss: Array
    constraints: ConstraintValues | Mapping[str, ConstraintValues]
    aux: PyTree = ()


# `(params, *inputs) -> Evaluation`; inputs are whatever `Scheme.update` was given beyond its state.
Problem = Callable[..., Evaluation]


class DualState(NamedTuple):
    """Multipliers and what their update remembers.

    Attributes:
      multipliers: `(constraint,)` λ.
      memory: optax state, penalty coefficients, or nothing.
    """

    multipliers: Array
    memory: PyTree = ()


def multipliers_of(dual: DualState | Mapping[str, DualState]) -> Array | dict[str, Array]:
    """λ `(constraint,)`; of several sets, a dict by name."""
    if isinstance(dual, DualState):
        return dual.multipliers
    return {name: one.multipliers for name, one in dual.items()}


class Formulation(NamedTuple):
    """How one set of constraints enters the objective, and how its multipliers move.

    Attributes:
      init: `number of constraints -> DualState`.
      update_multipliers: `(ConstraintValues, DualState) -> DualState`, a step of the multipliers.
      penalty_term: `(ConstraintValues, DualState) -> ()`, what is added to the objective;
        differentiable with respect to the proxies.
    """

    init: Callable[[int], DualState]
    update_multipliers: Callable[[ConstraintValues, DualState], DualState]
    penalty_term: Callable[[ConstraintValues, DualState], Array]

    @property
    def ascend(self):
        """The former name of `update_multipliers`."""
        warn("Formulation.ascend", "Formulation.update_multipliers")
        return self.update_multipliers

    @property
    def term(self):
        """The former name of `penalty_term`."""
        warn("Formulation.term", "Formulation.penalty_term")
        return self.penalty_term


class LagrangianState(NamedTuple):
    """Both players between two updates.

    Attributes:
      dual: state of the formulation; several sets as a dict by name.
      primal_state: optax state of the weights' optimiser.
      memory: what the scheme itself remembers.
    """

    dual: DualState | dict[str, DualState]
    primal_state: optax.OptState
    memory: PyTree = ()

    @property
    def multipliers(self) -> Array | dict[str, Array]:
        """λ `(constraint,)`; of several sets, a dict by name."""
        return multipliers_of(self.dual)


class SchemeInfo(NamedTuple):
    """What an update saw last.

    Attributes:
      evaluation: the problem at the last point where it was evaluated.
      lagrangian: `()` value of the Lagrangian there, with `multipliers`.
      multipliers: `(constraint,)` λ that the weights saw last; of several sets, a dict by name.
    """

    evaluation: Evaluation
    lagrangian: Array
    multipliers: Array | dict[str, Array]


class Scheme(NamedTuple):
    """How weights and multipliers take turns, as two pure functions.

    Attributes:
      init: `(params, num_constraints) -> LagrangianState`; of several sets, `num_constraints` is a
        dict by name.
      update: `(problem, params, state, *inputs) -> (params, state, SchemeInfo)`; the problem is
        called as `problem(params, *inputs)`.
    """

    init: Callable[[Params, int | Mapping[str, int]], LagrangianState]
    update: Callable[..., tuple[Params, LagrangianState, SchemeInfo]]
