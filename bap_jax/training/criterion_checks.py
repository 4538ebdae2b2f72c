"""Checks of a user's loss and correctness before anything is trained.

Nothing runs on the network: shapes are traced, and the functions are called on logits made up at
random together with some of the real labels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax import metrics
from bap_jax.constraints import DenseReference, Observations
from bap_jax.data.batches import with_narrow_labels
from bap_jax.data.splits import SPLITS, Splits
from bap_jax.errors import UserError
from bap_jax.metrics import CRITERIA, Criterion
from bap_jax.training.methods import build_method
from bap_jax.training.settings import Settings
from bap_jax.types import PyTree

_SAMPLES = 8  # on which the functions are called
_CLOSE = 1e-4  # relative; a sample alone and within a batch may be rounded otherwise


class LogitsShape(NamedTuple):
    """Shape `(batch, ...)` and type of what a network returns for a batch."""

    shape: tuple[int, ...]
    dtype: np.dtype


def check_logits(criterion: Criterion, logits: LogitsShape) -> None:
    """Checks that logits have a class axis where classes are predicted.

    Args:
      criterion: of the run.
      logits: of the network.

    Raises:
      UserError: they have not; the message says which loss such logits have.
    """
    shape = logits.shape
    if not shape:
        raise UserError("the network must return one row of logits for each sample; got a number.")
    if not criterion.has_classes or (len(shape) == 2 and shape[1] > 1):
        return
    hint = "loss='multi_label' or 'sequence'"
    if len(shape) == 1 or shape[1:] == (1,):
        hint = "loss='binary' (one logit, above 0 for label 1), or give the network two logits"
    known = ", ".join(name for name in CRITERIA if name != "classification")
    raise UserError(
        "without a loss of your own the network must return logits of shape (batch, class), with "
        f"two or more classes; got {shape}. Write {hint}; known: {known}; or functions loss= and "
        "correct= of (logits, labels) that return (batch,)."
    )


def check_criterion(
    criterion: Criterion, logits: LogitsShape, splits: Splits, settings: Settings
) -> None:
    """Calls a user's functions as a run will call them; nothing is done for class ids.

    Args:
      criterion: of the run.
      logits: of the network.
      splits: of the data.
      settings: of the run, checked.

    Raises:
      UserError: the functions fail, return something else than one number for each sample, mix
        samples, or call a sample neither right nor wrong; labels are not what they take; or the
        method or its settings need something that they do not offer.
    """
    check_logits(criterion, logits)
    if criterion.has_classes and (splits.num_classes or 0) > logits.shape[1]:
        raise UserError(
            f"the network returns {logits.shape[1]} logits for {splits.num_classes} classes; it "
            "needs one for each class."
        )
    if criterion == metrics.CLASSIFICATION:
        return
    if criterion.check_labels is not None:
        for labels in _labels_by_row(splits):
            criterion.check_labels(labels, logits.shape)
    rows = np.arange(min(_SAMPLES, splits.train.size))
    labels = with_narrow_labels(splits.train).labels
    labels = jax.tree.map(lambda leaf: jnp.asarray(leaf[rows]), labels)
    key = jax.random.key(0)
    made_up = jax.random.normal(key, (len(rows), *logits.shape[1:])).astype(logits.dtype)
    for name, function in (("loss", metrics.sample_losses), ("correct", metrics.sample_correct)):
        values = _call(name, jax.jit(function, static_argnums=0), criterion, made_up, labels)
        _check_each_alone(name, function, criterion, made_up, labels, values)
    metrics.check_zero_or_one(np.asarray(values))
    _call("loss", jax.grad(lambda z: metrics.sample_losses(criterion, z, labels).sum()), made_up)
    _check_method(criterion, made_up, labels, settings, len(splits.group_names))


def _labels_by_row(splits):
    """Labels in whose order a message can count: of the data that were split, or of each split."""
    labels = [getattr(splits, name).labels for name in SPLITS]
    if splits.sample_ids is None:
        return labels
    order = np.argsort(np.concatenate([splits.ids_of(name) for name in SPLITS]))
    return [jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *labels)]


def _call(name, function, *arguments):
    try:
        return function(*arguments)
    except UserError:
        raise
    except Exception as error:  # a user's function may raise anything
        shapes = jax.tree.map(jnp.shape, [a for a in arguments if not isinstance(a, Criterion)])
        raise UserError(
            f"{name} cannot be called with logits and labels of shapes {shapes}: "
            f"{type(error).__name__}: {(str(error) or '(no text)').splitlines()[0]} It is part of "
            "a compiled step: write it with jax.numpy, for a whole batch."
        ) from error


def _check_each_alone(name, function, criterion, logits, labels, together):
    """A sample's number must not depend on the rest of its batch."""
    for i in (0, len(together) - 1):
        own = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], (logits, labels))
        alone = _call(name, function, criterion, *own)
        if not np.allclose(alone[0], together[i], rtol=_CLOSE, atol=_CLOSE, equal_nan=True):
            shapes = jax.tree.map(jnp.shape, (logits, labels))
            raise UserError(
                f"{name} of a sample depends on the other samples of its batch: {alone[0]:.4g} "
                f"alone and {together[i]:.4g} in a batch of {len(together)}. With logits and "
                f"labels of shapes {shapes}, were two axes of different meaning broadcast? Write "
                "for instance logits[:, 0], or labels[:, None]."
            )


def _check_method(criterion, logits, labels, settings: Settings, num_groups: int):
    """Traces what the method computes of a batch, and of the dense network's logits."""
    count = len(logits)

    def of_batch(reference, logits):
        method = build_method(reference, settings)
        dense = logits if method.needs_dense_logits else None
        ids, weight = jnp.zeros((count, 1), jnp.int32), jnp.ones(count)
        loss = metrics.sample_losses(criterion, logits, labels)
        right = metrics.sample_correct(criterion, logits, labels)
        seen = Observations(loss, right, ids, weight, labels, logits, dense, criterion)
        constraint = method.constraint
        return method.objective(seen), constraint.evaluate(constraint.init(), seen)

    number, of_groups = np.zeros((), np.float32), np.zeros(num_groups, np.float32)
    reference = DenseReference(of_groups, number, of_groups, number, of_groups, of_groups)
    jax.eval_shape(of_batch, reference, logits)


def logits_shape(model, variables: PyTree, inputs) -> LogitsShape:
    """Shape and type of a network's logits; nothing is computed.

    Args:
      model: the network.
      variables: its arrays.
      inputs: `(batch, ...)`.

    Raises:
      UserError: the network returns something else than one array, or not one row for each sample.
    """

    def logits(variables, inputs):
        return model.apply(variables, inputs, train=False, key=None)[0]

    found = jax.eval_shape(logits, variables, inputs)
    if not hasattr(found, "shape"):
        raise UserError(
            f"the network must return its logits as one array; got a {type(found).__name__}. "
            "Return the logits alone, or join several by jnp.concatenate."
        )
    batch = jax.tree.leaves(inputs)[0].shape[0]
    if found.shape[:1] != (batch,):
        raise UserError(
            f"the network must return one row of logits for each sample; got shape {found.shape} "
            f"for a batch of {batch}. The first axis has to stay: write for instance "
            "squeeze(-1) in place of squeeze(), and no mean over the batch."
        )
    return LogitsShape(found.shape, found.dtype)


def num_outputs(criterion: Criterion, num_classes: int | None, asked: int) -> int:
    """How many logits a network of a config has.

    Args:
      criterion: of the run.
      num_classes: of the labels; None if they are no class ids.
      asked: `config.model.num_outputs`; 0 for as many as there are classes.

    Raises:
      UserError: labels are no class ids and the criterion needs them, or nobody says how many.
    """
    if criterion.has_classes and not num_classes:
        raise UserError(
            "the labels of this data set are no class ids; say what is minimised and what is "
            "right: config.loss='multi_label' or 'sequence', or functions of your own as "
            "config.loss='module:function' and config.correct='module:function'."
        )
    if asked or num_classes:
        return asked or num_classes or 0
    raise UserError(
        "the labels of this data set are no class ids, so the number of logits is not known; write "
        "it as config.model.num_outputs=N."
    )
