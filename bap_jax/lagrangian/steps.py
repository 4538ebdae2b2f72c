"""What all schemes share: how the weights and the multipliers each make a step."""

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from bap_jax.compilation import strongly_typed
from bap_jax.constraints.base import ConstraintValues, as_floats
from bap_jax.errors import UserError
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
from bap_jax.lagrangian.optimizer_step import move
from bap_jax.types import Array, Params, PyTree

_LEAST_WEIGHT = 0.5  # the smallest total weight that a gradient is scaled up from


class Gradient(NamedTuple):
    """The result of one forward and backward pass.

    Attributes:
      primal: gradient with respect to the weights.
      evaluation: the problem at these weights.
      lagrangian: `()` value of the Lagrangian.
      dual: the dual state that the weights saw.
      objective: `params -> ()` what `primal` is the gradient of, with these multipliers.
      value: `()` the objective at these weights.
    """

    primal: Params
    evaluation: Evaluation
    lagrangian: Array
    dual: Any
    objective: Callable[[Params], Array]
    value: Array

    @property
    def info(self) -> SchemeInfo:
        """Everything but the gradient."""
        return SchemeInfo(self.evaluation, self.lagrangian, multipliers_of(self.dual))


class PrimalDualSteps(NamedTuple):
    """How weights (primal) and multipliers (dual) make a step.

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
          UserError: `num_constraints` is neither a whole number ≥ 0 nor a dict of them.
        """
        check_num_constraints(num_constraints)
        dual = self.formulation.init(num_constraints)
        state = LagrangianState(dual, self.primal_optimizer.init(params), memory)
        return strongly_typed(state)

    def update_multipliers(self, evaluation: Evaluation, dual):
        """A step of the multipliers on the violations of `evaluation`.

        Raises:
          UserError: the numbers of constraints and multipliers differ.
        """
        check_sizes(evaluation.constraints, dual)
        objective = jax.lax.stop_gradient(evaluation.loss)
        values: Any = each_set(
            lambda part: part._replace(objective=objective), evaluation.constraints
        )
        return strongly_typed(self.formulation.update_multipliers(values, dual))

    def gradient(
        self, problem: Problem, params: Params, dual_at: Callable[[Evaluation], Any], inputs
    ) -> Gradient:
        """One forward and backward pass.

        Args:
          problem: called as `problem(params, *inputs)`.
          params: the weights.
          dual_at: the dual state that the weights see, as a function of the evaluation.
          inputs: of the problem.

        Raises:
          UserError: the numbers of constraints and multipliers differ.
        """

        def objective(params):
            evaluation = with_floats(problem(params, *inputs))
            dual = jax.lax.stop_gradient(dual_at(evaluation))
            check_sizes(evaluation.constraints, dual)
            value = self.value(evaluation, dual)
            scaled = value * self._scale(dual)
            return scaled, (evaluation, value, dual, scaled)

        primal, (evaluation, value, dual, scaled) = jax.grad(objective, has_aux=True)(params)

        def with_these_multipliers(params):
            return self.value(problem(params, *inputs), dual) * self._scale(dual)

        return Gradient(primal, evaluation, value, dual, with_these_multipliers, scaled)

    def value(self, evaluation: Evaluation, dual) -> Array:
        """`()` value of the Lagrangian."""
        values = cast(Any, evaluation.constraints)
        return evaluation.loss + self.formulation.penalty_term(values, dual)

    def descend(
        self, gradient: Gradient | Params, params: Params, primal_state
    ) -> tuple[Params, PyTree]:
        """A step of the weights.

        Args:
          gradient: from `gradient`; or a tree like the weights, with which optimisers that read the
            value of the objective cannot make a step.
          params: the weights.
          primal_state: of the optimiser.
        """
        if not isinstance(gradient, Gradient):
            return move(self.primal_optimizer, gradient, primal_state, params)
        found = gradient
        return move(
            self.primal_optimizer,
            found.primal,
            primal_state,
            params,
            value=found.value,
            objective=found.objective,
        )

    def _scale(self, dual):
        total = jnp.maximum(1 + self.formulation.added_weight(dual), _LEAST_WEIGHT)
        wanted = total
        if self.formulation.total_weight is not None:
            chosen = self.formulation.total_weight(dual)
            wanted = jnp.where(jnp.isfinite(chosen), chosen, total)
        return jax.lax.stop_gradient(jnp.minimum(wanted, self.weight_limit) / total)


def primal_dual_steps(
    primal_optimizer: optax.GradientTransformation,
    formulation: FormulationLike,
    weight_limit: Array | float = math.inf,
) -> PrimalDualSteps:
    """The steps of a scheme.

    Args:
      primal_optimizer: any optax optimiser for the weights.
      formulation: a `Formulation`, an optax optimiser for plain gradient ascent, or a dict of
        either by the name of the constraint set.
      weight_limit: largest total weight 1 + Σ|λ| of loss and constraints in the weights' gradient.
        Where the total is larger, the gradient is scaled down (docs/method.md, equation (20)): the
        saddle points stay where they are, and large multipliers no longer lengthen the step without
        end. 1 gives every step the length that it has without constraints, as the proxy-Lagrangian
        of Cotter et al. (2019) does.

    Raises:
      UserError: `formulation` is none of these.
    """
    return PrimalDualSteps(primal_optimizer, as_formulation(formulation), weight_limit)


def check_num_constraints(given) -> None:
    """Checks what a user gives as the number of constraints.

    Raises:
      UserError: `given` is neither a whole number ≥ 0 nor a dict of them by the names of the sets.
    """
    for size in given.values() if isinstance(given, Mapping) else [given]:
        if not (isinstance(size, numbers.Integral) and int(size) >= 0):
            raise UserError(
                "num_constraints must be a whole number, or a dict of them by the names of the "
                f"sets; got {given!r}. Write num_constraints=1."
            )


def each_set(function: Callable, values, *others) -> PyTree:
    """Calls `function` for every set of constraints.

    Args:
      function: `(ConstraintValues, *others) -> ` anything.
      values: `ConstraintValues`, or a dict of them by name.
      *others: with one entry for each set, as `values` has.

    Returns:
      One result, or a dict by name.
    """
    return jax.tree.map(
        function, values, *others, is_leaf=lambda node: isinstance(node, ConstraintValues)
    )


def with_floats(evaluation: Evaluation) -> Evaluation:
    """The evaluation with violations and proxies as floats, bools as 0 and 1."""

    def of_set(values):
        return values._replace(violation=as_floats(values.violation), proxy=as_floats(values.proxy))

    return evaluation._replace(constraints=each_set(of_set, evaluation.constraints))


def check_sizes(values, dual) -> None:
    """Checks that there are as many constraints as multipliers.

    Raises:
      UserError: their numbers differ, or one of the two is a dict and the other is not.
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
    for name, (one_set, state) in pairs.items():
        shape, expected = one_set.violation.shape, state.multipliers.shape
        if shape != expected:
            of_set = f" of {name!r}" if name else ""
            raise UserError(
                f"the scheme was initialised for constraints{of_set} of shape {expected}; the "
                f"problem returns violations of shape {shape}. Pass their number to init."
            )
