"""A network, data and a dense model small enough to compile in a blink."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bap_jax import lagrangian, training
from bap_jax.constraints import DenseReference, Observations
from bap_jax.models import Model
from bap_jax.training import methods
from bap_jax.training.settings import (
    ConstraintSettings,
    DualSettings,
    PruningSettings,
    Settings,
)
from bap_jax.types import Dataset, Variables


class Tiny(NamedTuple):
    """Everything that a trainer needs.

    Attributes:
      model: two layers without biases.
      variables: its first weights, which also are the dense model's.
      train: its samples lie in groups of the sizes asked for, at random.
      reference: of the dense model on them.
    """

    model: Model
    variables: Variables
    train: Dataset
    reference: DenseReference


def network(features: int = 4, hidden: int = 5, classes: int = 3) -> Model:
    """Two matrix products with a ReLU between them."""

    def init(key, inputs):
        del inputs
        keys = jax.random.split(key)
        shapes = (features, hidden), (hidden, classes)
        weights = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
        return Variables(dict(zip(("first", "last"), weights, strict=True)), ())

    def apply(variables, inputs, *, train=False, key=None):
        del train, key
        hidden = jax.nn.relu(inputs @ variables.params["first"])
        return hidden @ variables.params["last"], variables.state

    return Model(init, apply)


@functools.cache
def tiny(counts: tuple[int, ...] = (14, 10, 6), hidden: int = 5) -> Tiny:
    """Three classes; `counts` are the sizes of the groups."""
    size, rng = sum(counts), np.random.default_rng(0)
    model = network(hidden=hidden)
    variables = model.init(jax.random.key(0), None)
    inputs = rng.normal(size=(size, 4)).astype(np.float32)
    labels = rng.integers(0, 3, size)
    ids = rng.permutation(np.arange(len(counts)).repeat(counts))[:, None]
    train = Dataset(inputs, labels.astype(np.int32), ids.astype(np.int32))
    means = training.make_evaluator(model, len(counts))(variables, train)
    logits = model.apply(variables, inputs)[0]
    train = jax.tree.map(jnp.asarray, train._replace(dense_logits=logits))
    return Tiny(model, variables, train, training.dense_reference(means))


def dual_of(rule: str) -> DualSettings:
    """Multipliers by this rule; they start at ½, but for `auto`, which starts at 0."""
    return DualSettings(rule, start=0.0 if rule == "auto" else 0.5)


def settings_of(method: str, scheme: str = "dual_primal", dual=None, **constraint) -> Settings:
    """Nothing is tolerated, multipliers rise by ascent from ½, and every group is watched.

    See `dual_of` for other rules.
    """
    constraint = {"buffer_size": 2, "min_group_size": 1} | constraint
    return Settings(
        method,
        scheme,
        tolerance=0.0,
        dual=dual_of("ascent") if dual is None else dual,
        constraint=ConstraintSettings(**constraint),
        pruning=PruningSettings(0.5, epochs=1),
    )


def whole_split(losses) -> Observations:
    """All training samples of `tiny()` at once, so that shares in the batch are frequencies."""
    train = tiny().train
    ones = jnp.ones(train.size)
    return Observations(
        losses, ones, train.group_ids, ones, train.labels, train.dense_logits, train.dense_logits
    )


def trainer_of(
    problem: Tiny, settings: Settings, learning_rate: float = 0.1, constrained_from: int = 0
) -> training.Trainer:
    """The trainer of a method and a scheme, without pruning."""
    method = methods.build_method(problem.reference, settings)
    scheme = lagrangian.build_scheme(
        settings.scheme,
        optax.sgd(learning_rate),
        method.formulation,
        weight_limit=settings.dual.weight_limit,
    )
    return training.make_trainer(
        problem.model,
        scheme,
        method.constraint,
        training.no_pruning(),
        objective=method.objective,
        constrained_from=constrained_from,
    )
