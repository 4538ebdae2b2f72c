"""What a run minimises and what counts as right, sample by sample.

    loss      ℓ_i = loss(logits_i, labels_i)         what the weights see
    correct   c_i = correct(logits_i, labels_i)      0 or 1; what is bounded and audited

ℓ_g and A_g of docs/method.md, equation (1), are means of ℓ_i and c_i over a group, so everything
built on them, constraints, buffers, rules of selection and the audit, serves any pair of functions.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.errors import UserError
from bap_jax.metrics.classes import correctness, cross_entropy, kl_divergence
from bap_jax.types import Array, PyTree


class SampleFunction(Protocol):
    """Signature of `Criterion.loss` and `Criterion.correct`."""

    def __call__(self, logits: Array, labels: PyTree, /) -> Array:
        """`(batch,)` one number for each sample; pure, and written with `jax.numpy`.

        Args:
          logits: `(batch, ...)` what the network returns.
          labels: `(batch, ...)` as they were given; a tree of such arrays where a tree was given.
        """
        ...


Divergence = Callable[[Array, Array, PyTree], Array]
LabelCheck = Callable[[PyTree, tuple[int, ...]], None]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Criterion:
    """What is minimised, and what counts as right.

    Attributes:
      loss: `(logits, labels) -> (batch,)` loss of each sample, differentiable in the logits.
      correct: `(logits, labels) -> (batch,)` whether each sample is right: a bool, or 0 and 1. A
        fraction is an error: flips of single samples are what the audit's tests count.
      divergence: `(target logits, logits, labels) -> (batch,)` how far predictions are from the
        target's, for `distillation` and `constraint.proxy='kl'`; None where there is none.
      check_labels: `(labels, shape of the logits) -> None` raises a `UserError` for labels that the
        functions would misread; called once, before anything is trained, with arrays on the host.
      has_classes: whether logits are `(batch, class)`, labels `(batch,)` class ids, and right means
        that the label has the largest logit. Predicted classes are then kept and reported.
    """

    loss: SampleFunction
    correct: SampleFunction
    divergence: Divergence | None = None
    check_labels: LabelCheck | None = None
    has_classes: bool = False


def class_divergence(target_logits: Array, logits: Array, labels: PyTree) -> Array:
    """`kl_divergence` of the distributions over classes, whatever the label."""
    del labels
    return kl_divergence(target_logits, logits)


CLASSIFICATION = Criterion(cross_entropy, correctness, class_divergence, has_classes=True)


def sample_losses(criterion: Criterion, logits: Array, labels: PyTree) -> Array:
    """`(batch,)` float32 losses.

    Raises:
      UserError: `criterion.loss` returns something else than one real number for each sample.
    """
    return _one_for_each_sample("loss", criterion.loss(logits, labels), logits)


def sample_correct(criterion: Criterion, logits: Array, labels: PyTree) -> Array:
    """`(batch,)` float32, 1.0 where a sample is right.

    Raises:
      UserError: `criterion.correct` returns something else than one number for each sample.
    """
    if criterion.correct is not correctness:  # a user's function need not have a derivative
        logits = jax.lax.stop_gradient(logits)
    return _one_for_each_sample("correct", criterion.correct(logits, labels), logits)


def _one_for_each_sample(name, values, logits):
    batch = logits.shape[:1]
    shape, dtype = getattr(values, "shape", None), getattr(values, "dtype", None)
    if shape != batch or dtype is None:
        got = type(values).__name__ if dtype is None else f"{dtype} of shape {shape}"
        hint = ""
        if shape == () or isinstance(values, float | int):
            hint = " Leave out the mean over the batch: groups need every sample on its own."
        elif shape is not None and len(shape) > 1:
            hint = " Reduce the other axes, for instance by .mean() or .all() over them."
        raise UserError(
            f"{name} must return one number for each sample, an array of shape (batch,) = "
            f"{batch}; got {got}.{hint}"
        )
    if name == "loss" and not jnp.issubdtype(dtype, jnp.floating):
        raise UserError(
            f"loss must return real numbers with a gradient; got {dtype}. What is counted rather "
            "than differentiated belongs to correct=."
        )
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise UserError(f"{name} must return real numbers; got {dtype}.")
    return values if dtype == jnp.float32 else values.astype(jnp.float32)


def check_zero_or_one(values: np.ndarray) -> None:
    """Checks what `Criterion.correct` says of some samples.

    Args:
      values: `(sample,)` on the host.

    Raises:
      UserError: a value is neither 0 nor 1.
    """
    other = np.flatnonzero((values != 0) & (values != 1))
    if other.size:
        raise UserError(
            f"correct must say of each sample 0 (wrong) or 1 (right), and returned "
            f"{values[other[0]]:g} for {other.size} of {values.size} samples or others like it: "
            "gains and losses of single samples are counted. Turn a share into a decision, for "
            "instance `share >= 0.5` or `share == 1`."
        )
