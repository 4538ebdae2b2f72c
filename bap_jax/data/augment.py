"""A user's own augmentation: `(key, inputs) -> inputs`, part of the compiled training step.

    training      network(preprocess(augment(key, inputs)))
    evaluation    network(preprocess(inputs))

It is checked before anything is trained, on shapes and types alone.
"""

import re
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.data.input_arrays import batch_of, describe, is_alike
from bap_jax.data.inputs import sample_of
from bap_jax.errors import UserError
from bap_jax.types import Array, Preprocess, PyTree


class Augment(Protocol):
    """Changes inputs at random; keeps their structure, shapes and types."""

    def __call__(self, key: Array, inputs: PyTree, /) -> PyTree:
        """The changed inputs of one batch.

        Args:
          key: random key of the step.
          inputs: `(batch, ...)` as stored, an array or a pytree of arrays.
        """
        ...


def with_augment(augment: Augment, preprocess: Preprocess | None = None) -> Preprocess:
    """A function that augments in training, and then does what `preprocess` does.

    Args:
      augment: the user's function.
      preprocess: how stored inputs become inputs of the network; None if they stay.
    """

    def augmented(inputs, key, train):
        if train and key is not None:
            key, own_key = jax.random.split(key)
            inputs = augment(own_key, inputs)
        return inputs if preprocess is None else preprocess(inputs, key, train)

    return augmented


def check_augment(augment: Any, inputs: PyTree, batch_size: int) -> None:
    """Finds mistakes in a user's augmentation; computes nothing.

    Args:
      augment: `(key, inputs) -> inputs`.
      inputs: `(sample, ...)` in a pytree, or `Records`.
      batch_size: samples of a step.

    Raises:
      UserError: JAX cannot trace it, it changes structure, shapes or types, or it draws random
        numbers from elsewhere than its key.
    """
    if not callable(augment):
        raise UserError(f"augment must be a function (key, inputs) -> inputs; got {augment!r}.")
    batch = batch_of(sample_of(inputs), batch_size)
    first, second = (_trace(augment, batch) for _ in range(2))
    _check_same(batch, first[1])
    if first[0] != second[0]:
        raise UserError(
            "augment computes something else each time that it is traced, but inside a compiled "
            "step it is traced only once: draw random numbers from `key`, by jax.random, not by "
            "NumPy or Python."
        )


def _trace(augment: Callable, batch):
    """The program as a text with its constants, and shapes and types of the result."""
    # A new function each time, or JAX would return the trace that it has.
    traced = jax.make_jaxpr(lambda key, inputs: augment(key, inputs), return_shape=True)
    try:
        program, out = traced(jax.random.key(0), batch)
    except Exception as error:  # a user's function may raise anything
        raise UserError(
            f"augment cannot be part of a compiled step; called as augment(key, inputs) with a "
            f"batch of {describe(batch)}, it raised {type(error).__name__}: {_first_line(error)} "
            "Write it with jax.numpy and jax.random, as a function of both that returns inputs."
        ) from error
    constants = [
        np.asarray(constant).tobytes() for constant in program.consts if _is_plain(constant)
    ]
    return (re.sub(r"0x[0-9a-f]+", "", str(program)), constants), out


def _is_plain(constant):
    return not jnp.issubdtype(constant.dtype, jax.dtypes.extended)


def _first_line(error):
    return (str(error) or "no text").splitlines()[0].rstrip(".") + "."


def _check_same(batch, out):
    if is_alike(batch, out):
        return
    expected, got = describe(batch), describe(out)
    if expected == got:
        expected, got = (str(jax.tree.structure(tree)) for tree in (batch, out))
    raise UserError(
        f"augment must return inputs of the structure, shapes and types that it takes: expected "
        f"{expected}; got {got}. Cast results back, for instance by .astype(inputs.dtype)."
    )
