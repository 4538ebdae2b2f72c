"""Whether an optimiser can move these weights, found from shapes alone."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from bap_jax.errors import UserError
from bap_jax.lagrangian.optimizer_step import with_any_arguments
from bap_jax.training.optimizer_registry import optimizer_name
from bap_jax.training.optimizers import dual_optimizer, primal_optimizer
from bap_jax.training.settings import DualSettings, OptimizerSettings
from bap_jax.trees import leaf_paths, leaves_by_path
from bap_jax.types import Params, PyTree

_LISTED = 10  # paths of weights in a message


def check_primal_optimizer(
    settings: OptimizerSettings, params: Params, prefix: str = "optimizer."
) -> None:
    """Raises an error for an optimiser that cannot move the weights.

    Args:
      settings: of the optimiser, checked.
      params: the weights; only their shapes matter.
      prefix: of the settings, for messages.

    Raises:
      UserError: the optimiser fails on these weights, or returns updates of another shape or a
        state of another type than it began with.
    """

    def extra(gradient):
        value = sum((jnp.sum(leaf).astype(float) for leaf in jax.tree.leaves(gradient)), 0.0)
        return {"value": value, "grad": gradient, "value_fn": lambda params: _sum(params)}

    name = f"{prefix}name {optimizer_name(settings.name)!r}"
    _check_moves(lambda: primal_optimizer(settings, 10, 10), params, extra, name)


def check_dual_optimizer(settings: DualSettings) -> None:
    """The same for the optimiser of the multipliers.

    Raises:
      UserError: see `check_primal_optimizer`.
    """
    if settings.rule != "ascent":
        return
    multipliers = jax.ShapeDtypeStruct((3,), jnp.zeros(()).dtype)

    def extra(gradient):
        return {"observed": gradient == gradient}

    name = f"dual.optimizer {optimizer_name(settings.optimizer)!r}"
    _check_moves(lambda: dual_optimizer(settings), multipliers, extra, name)


def _sum(params: Params):
    return sum((jnp.sum(leaf).astype(float) for leaf in jax.tree.leaves(params)), 0.0)


def _check_moves(
    make: Callable[[], optax.GradientTransformation],
    params: PyTree,
    extra: Callable[[PyTree], dict],
    name: str,
) -> None:
    def start(params):
        return with_any_arguments(make()).init(params)

    def step(params, state):
        return with_any_arguments(make()).update(params, state, params, **extra(params))

    try:
        state = jax.eval_shape(start, params)
        updates, after = jax.eval_shape(step, params, state)
    except UserError:
        raise
    except Exception as error:  # of the optimiser's own code: anything
        text = str(error).partition("\n")[0].rstrip(".")
        raise UserError(
            f"{name} cannot move these weights: {type(error).__name__}: {text}. It is given the "
            "gradient, its state, the weights, and on request value=, grad= and value_fn=. "
            f"{_structure_of(params)}"
        ) from error
    _check_alike(params, updates, f"{name}: the updates", "the weights", _shape)
    _check_alike(state, after, f"{name}: the state after a step", "the state before it", _type)


def _structure_of(params):
    """What labels and masks of an optimiser have to follow."""
    paths = leaf_paths(params)
    if paths == [""]:
        return "These are one array."
    text = ", ".join(paths[:_LISTED]) + (", …" if len(paths) > _LISTED else "")
    return f"These are a nested dict with the paths {text}."


def _check_alike(expected, found, what, like, of):
    """Raises an error unless two trees have the same structure, and their leaves the same `of`."""
    if jax.tree.structure(expected) != jax.tree.structure(found):
        raise UserError(f"{what} must have the structure of {like}.")
    others = leaves_by_path(found)
    for path, leaf in leaves_by_path(expected).items():
        if of(leaf) != of(others[path]):
            raise UserError(
                f"{what} must be like {like}; at {path or 'the top'} they are {of(others[path])} "
                f"and {of(leaf)}."
            )


def _shape(leaf):
    return tuple(leaf.shape)


def _type(leaf):
    return f"{leaf.dtype}{list(leaf.shape)}"
