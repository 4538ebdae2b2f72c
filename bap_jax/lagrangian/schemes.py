"""Schemes by name, the user's own among them."""

import math
from typing import Any, NamedTuple, Protocol

import optax

from bap_jax._user_code import check_registration
from bap_jax.errors import UserError
from bap_jax.lagrangian.base import Scheme
from bap_jax.lagrangian.dual_primal import dual_primal
from bap_jax.lagrangian.extragradient import extragradient
from bap_jax.lagrangian.formulations import FormulationLike
from bap_jax.lagrangian.optimistic import optimistic
from bap_jax.lagrangian.overall_term import OVERALL_TERMS
from bap_jax.lagrangian.primal_dual import primal_dual
from bap_jax.lagrangian.simultaneous import simultaneous
from bap_jax.lagrangian.switching import switching
from bap_jax.types import Array


class MakeScheme(Protocol):
    """A function that makes a scheme, such as `dual_primal`."""

    def __call__(
        self,
        primal_optimizer: optax.GradientTransformation,
        formulation: FormulationLike,
        /,
        *,
        weight_limit: Any = math.inf,
    ) -> Scheme:
        """Makes a scheme; `steps.primal_dual_steps` explains the arguments.

        A maker may take further options, which `build_scheme` passes on. One that is registered
        with `has_multipliers=False` is also given `overall_term=`, see `overall_term`.
        """
        ...


class SchemeSpec(NamedTuple):
    """A registered scheme.

    Attributes:
      make: makes it.
      has_multipliers: whether it moves the multipliers of a formulation; `switching` does not.
    """

    make: MakeScheme
    has_multipliers: bool = True


def _switching(primal_optimizer, formulation, /, *, weight_limit=math.inf, **options):
    del formulation, weight_limit  # there are no multipliers
    return switching(primal_optimizer, **options)


SCHEMES: dict[str, SchemeSpec] = {
    "simultaneous": SchemeSpec(simultaneous),
    "dual_primal": SchemeSpec(dual_primal),
    "primal_dual": SchemeSpec(primal_dual),
    "extragradient": SchemeSpec(extragradient),
    "optimistic": SchemeSpec(optimistic),
    "switching": SchemeSpec(_switching, has_multipliers=False),
}


def register_scheme(
    name: str, make: MakeScheme, *, has_multipliers: bool = True, replace: bool = False
) -> None:
    """Makes a scheme known by name, for `Settings.scheme`, configs and sweeps.

    Args:
      name: letters, numbers and `_ . + -`.
      make: makes the scheme, see `MakeScheme`.
      has_multipliers: whether it moves the multipliers of a formulation. One that does not is used
        only with methods that support switching.
      replace: give a name that is in use a new meaning.

    Raises:
      UserError: the name is taken, unless by the same function, or cannot be a name.
    """
    known = {key: spec.make for key, spec in SCHEMES.items()}
    check_registration("scheme", name, make, known, replace)
    SCHEMES[name] = SchemeSpec(make, has_multipliers)


def build_scheme(
    name: str,
    primal_optimizer: optax.GradientTransformation,
    formulation: FormulationLike,
    *,
    weight_limit: Array | float = math.inf,
    overall_term: str = OVERALL_TERMS[0],
    **options,
) -> Scheme:
    """The scheme called `name`.

    Args:
      name: a key of `SCHEMES`.
      primal_optimizer, formulation, weight_limit: as in `steps.primal_dual_steps`.
      overall_term: see the module `overall_term`; for schemes without multipliers, others find it
        in their formulation.
      **options: of that scheme alone, such as `keep_ahead` of `extragradient`.

    Raises:
      UserError: the name is unknown.
    """
    if name not in SCHEMES:
        raise UserError(
            f"unknown scheme {name!r}; known schemes: {', '.join(SCHEMES)}. Add your own with "
            "register_scheme(name, make)."
        )
    spec = SCHEMES[name]
    if not spec.has_multipliers:
        options["overall_term"] = overall_term
    make: Any = spec.make  # options are those of this scheme alone
    return make(primal_optimizer, formulation, weight_limit=weight_limit, **options)
