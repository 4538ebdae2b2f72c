"""What counts as a formulation, and one formulation made of several."""

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax

from bap_jax.errors import UserError
from bap_jax.lagrangian.base import Formulation
from bap_jax.lagrangian.gradient_ascent import gradient_ascent

FormulationLike = Formulation | optax.GradientTransformation | Mapping[str, "FormulationLike"]


def as_formulation(given: FormulationLike) -> Formulation:
    """A formulation as it is, an optax optimiser as `gradient_ascent`, a dict as `named`.

    Raises:
      UserError: `given` is none of these.
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

    def init(sizes) -> Any:
        match_names(sizes, formulations, "numbers of constraints")
        return {name: f.init(sizes[name]) for name, f in formulations.items()}

    def update_multipliers(values, dual) -> Any:
        match_names(values, formulations, "constraint values")
        return {
            name: f.update_multipliers(values[name], dual[name]) for name, f in formulations.items()
        }

    def penalty_term(values, dual) -> Any:
        match_names(values, formulations, "constraint values")
        return sum(f.penalty_term(values[name], dual[name]) for name, f in formulations.items())

    def total_weight(dual) -> Any:
        """The largest of the sets; those that leave the gradient as it is have no say."""
        wanted = [f.total_weight(dual[n]) for n, f in formulations.items() if f.total_weight]
        finite = [jnp.where(jnp.isfinite(one), one, 0) for one in wanted]
        largest = functools.reduce(jnp.maximum, finite)
        return jnp.where(largest > 0, largest, jnp.inf)

    def added_weight(dual) -> Any:
        return sum(f.added_weight(dual[name]) for name, f in formulations.items())

    all_anticipate = all(f.anticipates for f in formulations.values())
    scaled = any(f.total_weight for f in formulations.values())
    return Formulation(
        init,
        update_multipliers,
        penalty_term,
        total_weight if scaled else None,
        all_anticipate,
        added_weight,
    )


def match_names(given: Mapping, expected: Mapping, what: str) -> None:
    """Checks that two dicts have the same names.

    Raises:
      UserError: the names differ, or `given` is not a dict.
    """
    if not isinstance(given, Mapping) or set(given) != set(expected):
        names = ", ".join(given) if isinstance(given, Mapping) else type(given).__name__
        raise UserError(f"expected {what} by the names {', '.join(expected)}; got {names}.")
