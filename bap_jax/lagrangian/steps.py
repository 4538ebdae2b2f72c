"""What all schemes share: the weights' gradient, their step, and the multipliers' step."""

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bap_jax.constraints.base import ConstraintValues
from bap_jax.lagrangian.base import (
    DualState,
    Evaluation,
    Formulation,
    LagrangianState,
    Problem,
    SchemeInfo,
    multipliers_of,
)
from bap_jax.lagrangian.formulations import FormulationLike, as_formulation, match_names
from bap_jax.types import Array, Params, PyTree, UserError


class Gradient(NamedTuple):
    """What one forward and backward pass gives.

    Attributes:
      primal: gradient with respect to the weights.
      evaluation: the problem there.
      lagrangian: `()` its value.
      dual: the dual state that the weights saw.
    """

    primal: Params
    evaluation: Evaluation
    lagrangian: Array
    dual: Any

    @property
    def info(self) -> SchemeInfo:
        """The same without the gradient."""
        return SchemeInfo(self.evaluation, self.lagrangian, multipliers_of(self.dual))


class PrimalDualSteps(NamedTuple):
    """Both players, and the largest weight of what the weights minimise.

    Attributes:
      primal_optimizer: moves the weights.
      formulation: moves the multipliers.
      weight_limit: see `primal_dual_steps`.
    """

    primal_optimizer: optax.GradientTransformation
    formulation: Formulation
    weight_limit: Array | float

    def init(self, params: Params, num_constraints, memory: PyTree = ()) -> LagrangianState:
        """The state before the first update.

        Raises:
          UserError: `num_constraints` is no number ≥ 0, or no dict of such.
        """
        check_num_constraints(num_constraints)
        dual = self.formulation.init(num_constraints)
        return LagrangianState(dual, self.primal_optimizer.init(params), memory)

    def update_multipliers(self, evaluation: Evaluation, dual):
        """A step of the multipliers on the violations of `evaluation`.

        Raises:
          UserError: there are not as many constraints as multipliers.
        """
        check_sizes(evaluation.constraints, dual)
        return self.formulation.update_multipliers(evaluation.constraints, dual)

    def gradient(
        self, problem: Problem, params: Params, dual_at: Callable[[Evaluation], Any], inputs
    ) -> Gradient:
        """One forward and backward pass; `dual_at` says which dual state the weights see."""

        def objective(params):
            evaluation = problem(params, *inputs)
            dual = jax.lax.stop_gradient(dual_at(evaluation))
            check_sizes(evaluation.constraints, dual)
            value = self.value(evaluation, dual)
            return value * self._scale(dual), (evaluation, value, dual)

        primal, (evaluation, value, dual) = jax.grad(objective, has_aux=True)(params)
        return Gradient(primal, evaluation, value, dual)

    def value(self, evaluation: Evaluation, dual) -> Array:
        """`()` the Lagrangian."""
        return evaluation.loss + self.formulation.penalty_term(evaluation.constraints, dual)

    def descend(self, gradient: Params, params: Params, primal_state) -> tuple[Params, PyTree]:
        """A step of the weights."""
        updates, primal_state = self.primal_optimizer.update(gradient, primal_state, params)
        return optax.apply_updates(params, updates), primal_state

    def _scale(self, dual):
        total = 1 + sum(jnp.abs(one.multipliers).sum() for one in _sets(dual))
        return jax.lax.stop_gradient(jnp.minimum(1, self.weight_limit / total))


def primal_dual_steps(
    primal_optimizer: optax.GradientTransformation,
    formulation: FormulationLike,
    weight_limit: Array | float = math.inf,
) -> PrimalDualSteps:
    """The two players of a scheme.

    Args:
      primal_optimizer: any optax optimiser for the weights.
      formulation: a `Formulation`, an optax optimiser for plain gradient ascent, or a dict of
        either by the name of the constraint set.
      weight_limit: largest total weight 1 + Σ|λ| of loss and constraints in the weights' gradient;
        beyond it that gradient is scaled down to it. The saddle points stay, and large multipliers
        no longer lengthen the step without end. 1 gives every step the length it has without
        constraints, as the proxy-Lagrangian of Cotter et al. (2019) does.

    Raises:
      UserError: `formulation` is none.
    """
    return PrimalDualSteps(primal_optimizer, as_formulation(formulation), weight_limit)


def check_num_constraints(given) -> None:
    """Finds what is no number of constraints.

    Raises:
      UserError: it is no whole number ≥ 0, and no dict of such by the names of the sets.
    """
    for size in given.values() if isinstance(given, Mapping) else [given]:
        if not (isinstance(size, numbers.Integral) and size >= 0):
            raise UserError(
                "num_constraints must be a whole number, or a dict of them by the names of the "
                f"sets; got {given!r}. Write num_constraints=1."
            )


def each_set(function: Callable, values, *others) -> PyTree:
    """`function` of the values of every set of constraints, and of `others` beside them."""
    return jax.tree.map(
        function, values, *others, is_leaf=lambda node: isinstance(node, ConstraintValues)
    )


def _sets(dual) -> list[DualState]:
    return [dual] if isinstance(dual, DualState) else list(dual.values())


def check_sizes(values, dual) -> None:
    """Compares constraint values with multipliers.

    Raises:
      UserError: there are not as many constraints as multipliers.
    """
    if isinstance(values, ConstraintValues) != isinstance(dual, DualState):
        raise UserError(
            "the problem returns several named sets of constraints; give the scheme a dict of "
            "formulations, and init a dict of sizes, by the same names."
            if isinstance(dual, DualState)
            else "the scheme expects a dict of named constraint values; got one unnamed set."
        )
    pairs = {"": (values, dual)}
    if not isinstance(dual, DualState):
        match_names(values, dual, "constraint values")
        pairs = {name: (values[name], dual[name]) for name in values}
    for name, (one, state) in pairs.items():
        found, expected = one.violation.shape, state.multipliers.shape
        if found != expected:
            where = f" of {name!r}" if name else ""
            raise UserError(
                f"the scheme was initialised for constraints{where} of shape {expected}; the "
                f"problem returns violations of shape {found}. Give init their number."
            )
