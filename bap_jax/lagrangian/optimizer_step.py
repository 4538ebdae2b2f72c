"""One step of the weights by any optax transformation, those with extra arguments included.

Optax passes more than the gradient to transformations that ask for it by name:

    value      the objective at the weights                       (Polyak's step size, plateaus)
    grad       its gradient                                       (line searches)
    value_fn   the objective as a function of the weights         (line searches, L-BFGS)
"""

import inspect
from collections.abc import Callable

import optax

from bap_jax.compilation import strongly_typed, with_usual_promotion
from bap_jax.types import Array, Params, PyTree


def move(
    optimizer: optax.GradientTransformation,
    gradient: Params,
    state: PyTree,
    params: Params,
    *,
    value: Array | None = None,
    objective: Callable[[Params], Array] | None = None,
) -> tuple[Params, PyTree]:
    """New weights and a new state of the optimiser.

    Args:
      optimizer: any optax transformation.
      gradient: of the objective.
      state: of the optimiser.
      params: the weights.
      value: `()` the objective at `params`.
      objective: the objective as a function of the weights; left out together with `value`.
    """
    extra = {}
    if objective is not None:
        extra = {"value": value, "grad": gradient, "value_fn": objective}
    # Optax multiplies floats by integer counts, which `strict` promotion refuses.
    update = with_usual_promotion(with_any_arguments(optimizer).update)
    updates, state = update(gradient, state, params, **extra)
    return optax.apply_updates(params, updates), strongly_typed(state)


def with_any_arguments(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """The same transformation; it ignores extra arguments that it does not take.

    Example:
      >>> def update(updates, state, params=None, *, value):
      ...     return updates, value
      >>> own = optax.GradientTransformationExtraArgs(lambda params: 0.0, update)
      >>> with_any_arguments(own).update(1.0, 0.0, 2.0, value=3.0, grad=4.0)
      (1.0, 3.0)
    """
    optimizer = optax.with_extra_args_support(optimizer)
    parameters = inspect.signature(optimizer.update).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return optimizer
    known = {parameter.name for parameter in parameters}

    def update(updates, state, params=None, **extra):
        extra = {name: extra[name] for name in known & extra.keys()}
        return optimizer.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)
