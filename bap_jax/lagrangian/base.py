"""The saddle-point problem  min_θ max_λ  f(θ) + Σ_c λ_c h_c(θ)  and the interfaces of its solvers.

    symbol   name            what it is
    f        loss            the objective
    h_c      proxy           constraint c as the weights see it
    v_c      violation       constraint c as the multipliers see it
    λ_c      multipliers     one number per constraint; ≥ 0 for inequalities

A user writes a *problem*, a function of the parameters (and a batch) that returns an `Evaluation`.
A `Formulation` says how constraints enter the weights' objective and how multipliers move. A
`Scheme` says in which order weights and multipliers move, and evaluates the problem where it needs
to. See docs/method.md, equations (8) and (9).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from bap_jax._deprecated import warn
from bap_jax.constraints.base import ConstraintValues
from bap_jax.types import Array, Params, PyTree


class Evaluation(NamedTuple):
    """The problem at one point.

    Attributes:
      loss: `()` objective, differentiable.
      constraints: values of all constraints; with several sets, a dict by name.
      aux: anything else that the caller wants back from the forward pass.
    """

    loss: Array
    constraints: ConstraintValues | Mapping[str, ConstraintValues]
    aux: PyTree = ()


class Problem(Protocol):
    """What a user writes: objective and constraints as a function of the parameters."""

    def __call__(self, params: Params, /, *inputs: Any, **options: Any) -> Evaluation:
        """Evaluates the problem; pure, and differentiable with respect to `params`.

        Args:
          params: where.
          *inputs: whatever `Scheme.update` received after its state, such as a batch.
          **options: only `after=`, the first `Evaluation` of the same update, and only from a
            scheme with `chained=True`.
        """
        ...


class DualState(NamedTuple):
    """Multipliers, and what their update rule remembers.

    Attributes:
      multipliers: `(constraint,)` λ.
      memory: optax state, penalty coefficients, or nothing.
    """

    multipliers: Array
    memory: PyTree = ()


def multipliers_of(dual: DualState | Mapping[str, DualState]) -> Array | dict[str, Array]:
    """λ `(constraint,)`; with several sets, a dict by name."""
    if isinstance(dual, DualState):
        return dual.multipliers
    return {name: state.multipliers for name, state in dual.items()}


class FormulationInit(Protocol):
    """Signature of `Formulation.init`."""

    def __call__(self, size: int, /) -> DualState:
        """Multipliers before the first step, for `size` constraints."""
        ...


class MultiplierUpdate(Protocol):
    """Signature of `Formulation.update_multipliers`."""

    def __call__(self, values: ConstraintValues, dual: DualState, /) -> DualState:
        """One step of the multipliers; reads `values.violation` where `values.violation_mask`."""
        ...


class PenaltyTerm(Protocol):
    """Signature of `Formulation.penalty_term`."""

    def __call__(self, values: ConstraintValues, dual: DualState, /) -> Array:
        """`()` what is added to the objective; reads `values.proxy` where `values.proxy_mask`.

        Differentiable with respect to the proxies.
        """
        ...


class TotalWeight(Protocol):
    """Signature of `Formulation.total_weight`."""

    def __call__(self, dual: DualState, /) -> Array:
        """`()` the total weight that the weights' gradient is to have; ∞ to leave it as it is."""
        ...


class AddedWeight(Protocol):
    """Signature of `Formulation.added_weight`."""

    def __call__(self, dual: DualState, /) -> Array:
        """`()` what the constraints add to the loss's weight of 1."""
        ...


def sum_of_sizes(dual: DualState | Mapping[str, DualState]) -> Array:
    """`()` Σ|λ|, over all sets."""
    return jnp.abs(jnp.concatenate(jax.tree.leaves(multipliers_of(dual)))).sum()


class Formulation(NamedTuple):
    """How a set of constraints enters the objective, and how its multipliers move.

    A formulation for several named sets (`formulations.named`) takes and returns dicts by name in
    place of sizes, values and states.

    Attributes:
      init: `number of constraints -> DualState`.
      update_multipliers: `(ConstraintValues, DualState) -> DualState`, a step of the multipliers.
      penalty_term: `(ConstraintValues, DualState) -> ()`, what is added to the objective.
      total_weight: `DualState -> ()`, the total weight of loss and constraints to which the
        weights' gradient is scaled, up or down; None leaves the gradient as it is.
      anticipates: whether multipliers react to the change of a violation by themselves, so that
        `optimistic` need not correct it.
      added_weight: `DualState -> ()`, what the constraints add to the loss's weight of 1 in the
        gradient before it is scaled, which then counts as ½ at least; by default Σ|λ|.
    """

    init: FormulationInit
    update_multipliers: MultiplierUpdate
    penalty_term: PenaltyTerm
    total_weight: TotalWeight | None = None
    anticipates: bool = False
    added_weight: AddedWeight = sum_of_sizes

    @property
    def ascend(self) -> MultiplierUpdate:
        """The former name of `update_multipliers`."""
        warn("Formulation.ascend", "Formulation.update_multipliers")
        return self.update_multipliers

    @property
    def term(self) -> PenaltyTerm:
        """The former name of `penalty_term`."""
        warn("Formulation.term", "Formulation.penalty_term")
        return self.penalty_term


class LagrangianState(NamedTuple):
    """Multipliers and optimiser states between two updates.

    Attributes:
      dual: state of the formulation; with several sets, a dict by name.
      primal_state: optax state of the weights' optimiser.
      memory: what the scheme itself remembers.
    """

    dual: DualState | dict[str, DualState]
    primal_state: optax.OptState
    memory: PyTree = ()

    @property
    def multipliers(self) -> Array | dict[str, Array]:
        """λ `(constraint,)`; with several sets, a dict by name."""
        return multipliers_of(self.dual)


class SchemeInfo(NamedTuple):
    """What an update saw last.

    Attributes:
      evaluation: the problem at the last point where it was evaluated.
      lagrangian: `()` value of the Lagrangian at that point, with `multipliers`.
      multipliers: `(constraint,)` λ that the weights saw last; with several sets, a dict by name.
    """

    evaluation: Evaluation
    lagrangian: Array
    multipliers: Array | dict[str, Array]


class SchemeInit(Protocol):
    """Signature of `Scheme.init`."""

    def __call__(self, params: Params, num_constraints: int | Mapping[str, int]) -> LagrangianState:
        """The state before the first update.

        Args:
          params: the weights.
          num_constraints: ≥ 0; with several sets, a dict by name.

        Raises:
          UserError: `num_constraints` is neither.
        """
        ...


class SchemeUpdate(Protocol):
    """Signature of `Scheme.update`."""

    def __call__(
        self, problem: Problem, params: Params, state: LagrangianState, /, *inputs: Any
    ) -> tuple[Params, LagrangianState, SchemeInfo]:
        """Moves weights and multipliers once; pure.

        Args:
          problem: called as `problem(params, *inputs)`.
          params: the weights.
          state: of `init` or of the last update.
          *inputs: passed on to the problem.

        Returns:
          New weights, new state, and what was seen on the way.

        Raises:
          UserError: the problem returns another number of constraints than `init` was given.
        """
        ...


class Scheme(NamedTuple):
    """In which order weights and multipliers move, as two pure functions.

    Attributes:
      init: `(params, num_constraints) -> LagrangianState`.
      update: `(problem, params, state, *inputs) -> (params, state, SchemeInfo)`.
    """

    init: SchemeInit
    update: SchemeUpdate
