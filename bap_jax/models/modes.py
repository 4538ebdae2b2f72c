"""Checks that dropout and batch normalisation act in training, by tracing the network.

A network acts differently in training if its logits depend there on random keys, or on other
arrays of its state, or if other arrays of its state change. Nothing is computed.
"""

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from bap_jax.errors import UserError
from bap_jax.models.base import Model
from bap_jax.models.flags import HOW, RECIPE
from bap_jax.trees import array_on_device, leaf_paths
from bap_jax.types import Variables


class _Mode(NamedTuple):
    """What a network does in training or in evaluation.

    Attributes:
      random: whether the logits depend on random keys.
      read: indices of the floating-point arrays of the state on which the logits depend.
      changed: index of one of those that the forward pass changes; None if it changes none.
    """

    random: bool
    read: frozenset[int]
    changed: int | None


def check_modes(model: Model, variables: Variables, inputs: Any) -> None:
    """Checks that a network trains and evaluates as its layers are meant to.

    Args:
      model: the network; one without `switched` is not checked.
      variables: its arrays.
      inputs: `(batch, ...)`, or a tree of such arrays; only shapes and types matter.

    Raises:
      UserError: a forward pass fails; logits are random in evaluation; evaluation changes the
        state; or training is evaluation although there is dropout or batch normalisation, and the
        user has not said by `apply` that this is meant.

    Warns:
      UserWarning: only one of the two, dropout and batch normalisation, acts in training.
    """
    if model.switched is None and model.call is None:
        return
    if model.preprocess is not None:
        assert model.network is not None  # both are set by with_preprocessing
        preprocess = model.preprocess
        inputs = jax.eval_shape(lambda x: preprocess(x, None, False), _batch(inputs))
        return check_modes(model.network, variables, inputs)
    inputs = _batch(inputs)
    evaluation, training = (_mode(model, variables, inputs, train) for train in (False, True))
    _check_evaluation(evaluation, variables)
    if model.switched is not None:
        _check_training(training, evaluation, model.switched(variables, inputs))


def _check_evaluation(mode, variables):
    if mode.random:
        raise UserError(f"the network's logits are random in evaluation. {HOW}")
    if mode.changed is not None:
        name = leaf_paths(variables.state)[mode.changed]
        raise UserError(f"the network changes {name!r} in evaluation. {HOW}")


def _check_training(training, evaluation, layers):
    moves = training.changed is not None or training.read != evaluation.read
    acts = {"dropout": training.random, "batch_norm": moves}
    idle = {kind: name for kind, name in layers.items() if not acts[kind]}
    if not idle:
        return
    found = " and ".join(f"{_WORDS[kind]} ({name})" for kind, name in idle.items())
    if not any(acts.values()):
        raise UserError(
            f"the network computes the same in training as in evaluation, although it has {found}. "
            f"{HOW} If this is what you want, say so: "
            "apply=lambda module, inputs, train: module(inputs)."
        )
    warnings.warn(f"the network's {found} does nothing in training. {HOW}", stacklevel=4)


_WORDS = {"dropout": "dropout", "batch_norm": "batch normalisation"}


def _mode(model, variables, inputs, train):
    def forward(key, state, params, inputs):
        return model.apply(Variables(params, state), inputs, train=train, key=key)

    operands = jax.random.key(0), variables.state, variables.params, inputs
    try:
        jaxpr, (logits, _) = jax.make_jaxpr(forward, return_shape=True)(*operands)
    except UserError:
        raise
    except Exception as error:  # a user's network may raise anything
        mode = "training" if train else "evaluation"
        raise UserError(
            f"the network fails in {mode}: {_first_line(error)} If it is called in another way, "
            f"write {RECIPE}."
        ) from error
    jaxpr, count = jaxpr.jaxpr, len(jax.tree.leaves(logits))
    used = _inputs_of(jaxpr, range(count))
    kinds = [var.aval.dtype for var in jaxpr.invars[: len(jax.tree.leaves(operands[:2]))]]
    random = any(used[i] and _is_key(kind) for i, kind in enumerate(kinds))
    floats = [i for i, kind in enumerate(kinds) if jnp.issubdtype(kind, jnp.inexact)]
    read = frozenset(i - 1 for i in floats if used[i])
    changed = (i - 1 for i in floats if _is_changed(jaxpr, i, count + i - 1))
    return _Mode(random, read, next(changed, None))


def _is_changed(jaxpr, index, out_index):
    """Whether an input differs from its output; one that is the result of itself alone does not."""
    if jaxpr.outvars[out_index] is jaxpr.invars[index]:
        return False
    used = _inputs_of(jaxpr, [out_index])
    return any(is_used for i, is_used in enumerate(used) if i != index)


def _inputs_of(jaxpr, outputs):
    """For each input of a program, whether any of these outputs depends on it."""
    outputs = [i in outputs for i in range(len(jaxpr.outvars))]
    return partial_eval.dce_jaxpr(jaxpr, outputs)[1]


def _is_key(kind):
    return jnp.issubdtype(kind, jax.dtypes.prng_key)


def _batch(inputs: Any) -> Any:
    """Shapes of two samples."""
    return jax.tree.map(lambda x: array_on_device((2, *x.shape[1:]), x.dtype), inputs)


def _first_line(error):
    return (str(error) or type(error).__name__).splitlines()[0].split(" (https://")[0]
