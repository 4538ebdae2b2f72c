"""Several formulations as one, and what counts as a formulation."""

from collections.abc import Mapping

import optax

from bap_jax.lagrangian.base import Formulation
from bap_jax.lagrangian.gradient_ascent import gradient_ascent
from bap_jax.types import UserError

FormulationLike = Formulation | optax.GradientTransformation | Mapping[str, "FormulationLike"]


def as_formulation(given: FormulationLike) -> Formulation:
    """A formulation as it is, an optax optimiser as `gradient_ascent`, a dict as `named`.

    Raises:
      UserError: it is none of these.
    """
    if isinstance(given, Formulation):
        return given
    if isinstance(given, optax.GradientTransformation):
        return gradient_ascent(given)
    if isinstance(given, Mapping):
        return named({name: as_formulation(one) for name, one in given.items()})
    raise UserError(
        "expected a Formulation, an optax optimiser for gradient ascent, or a dict of them by the "
        f"name of the constraint set; got {type(given).__name__}. Write optax.sgd(0.1)."
    )


def named(formulations: Mapping[str, Formulation]) -> Formulation:
    """One formulation for each named set of constraints; sizes, values and states are dicts."""

    def init(sizes):
        match_names(sizes, formulations, "numbers of constraints")
        return {name: f.init(sizes[name]) for name, f in formulations.items()}

    def update_multipliers(values, dual):
        match_names(values, formulations, "constraint values")
        return {
            name: f.update_multipliers(values[name], dual[name]) for name, f in formulations.items()
        }

    def penalty_term(values, dual):
        match_names(values, formulations, "constraint values")
        return sum(f.penalty_term(values[name], dual[name]) for name, f in formulations.items())

    return Formulation(init, update_multipliers, penalty_term)


def match_names(given: Mapping, expected: Mapping, what: str) -> None:
    """Compares the names of two dicts.

    Raises:
      UserError: they differ, or `given` is no dict.
    """
    if not isinstance(given, Mapping) or set(given) != set(expected):
        found = ", ".join(given) if isinstance(given, Mapping) else type(given).__name__
        raise UserError(f"expected {what} by the names {', '.join(expected)}; got {found}.")
