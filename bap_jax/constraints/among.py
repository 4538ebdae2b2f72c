"""Constraints on some of the groups, as if there were no other samples.

    ψ_g among S:   Δ_g − Δ_S,   Δ_S = Σ_{h ∈ S} n_h Δ_h / Σ_{h ∈ S} n_h

With groups formed by label and attribute, S are for instance the groups of label 1: Δ_g is then the
fall of a group's true positive rate, and ψ_g ≤ ε a form of equal opportunity (Hardt et al. 2016,
arXiv 1610.02413). Samples outside S train the network, and no constraint sees them.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import jax.numpy as jnp
import numpy as np

from bap_jax.constraints.base import Constraint, DenseReference
from bap_jax.constraints.observations import presence_of
from bap_jax.errors import UserError


class MakeConstraint(Protocol):
    """Builds a constraint on the groups of a reference."""

    def __call__(self, reference: DenseReference, /) -> Constraint:
        """Builds it.

        Args:
          reference: the dense model on the samples of the chosen groups alone.
        """
        ...


def among(reference: DenseReference, groups: Sequence[int], make: MakeConstraint) -> Constraint:
    """A constraint that sees the samples of some groups only.

    Args:
      reference: the dense model on all groups.
      groups: ids of the groups, in the order of their names; all of one attribute.
      make: builds the constraint from a reference that knows these groups alone; its overall
        accuracy and loss are those of their samples.

    Returns:
      The constraint of `make`, for the groups of a run.

    Raises:
      UserError: there is no group, one is given twice or does not exist, or `make` combines
        several sets of constraints; combine what `among` returns instead.

    Example:
      >>> from bap_jax.constraints import worst_group_floor
      >>> whole = DenseReference(
      ...     jnp.array([0.9, 0.7, 0.2]), 0.5, jnp.ones(3), 1.0, jnp.array([0.25, 0.25, 0.5])
      ... )
      >>> constraint = among(whole, [0, 1], lambda part: worst_group_floor(part, 0.01))
      >>> constraint.size, constraint.names(["women", "men", "others"])
      (2, ['women', 'men'])
    """
    num_groups = reference.group_accuracy.shape[0]
    chosen = _checked(groups, num_groups)
    inner = make(_part_of(reference, chosen))
    share = reference.frequency[chosen].sum()  # of the objective, which is of all samples
    if isinstance(inner.size, Mapping):
        raise UserError(
            "among takes a single set of constraints; write combine({'name': among(...), ...})."
        )
    # One row more, for samples of no group.
    position = np.full(num_groups + 1, -1, np.int32)
    position[chosen] = np.arange(chosen.size)

    kinds = -(-inner.size // chosen.size)

    def evaluate(state, observations):
        ids = observations.group_ids
        ids = jnp.asarray(position)[jnp.where((ids >= 0) & (ids < num_groups), ids, num_groups)]
        weight = jnp.where((ids >= 0).any(1), observations.weight, 0)
        values, state = inner.evaluate(state, observations._replace(group_ids=ids, weight=weight))
        if jnp.ndim(values.presence):  # of a batch whose samples are not all of these groups
            seen = presence_of(observations, reference.frequency)[chosen]
            values = values._replace(presence=jnp.tile(seen, kinds)[: inner.size])
        return values._replace(unit=values.unit * share), state

    own = np.tile(np.arange(chosen.size), kinds) if inner.groups is None else inner.groups
    return Constraint(
        inner.size,
        inner.init,
        evaluate,
        names=lambda names: inner.names([names[i] for i in chosen]),
        groups=tuple(int(chosen[i]) for i in own) if len(own) == inner.size else None,
    )


def _checked(groups, num_groups):
    chosen = np.asarray(groups)
    if chosen.ndim != 1 or not chosen.size or not np.issubdtype(chosen.dtype, np.integer):
        raise UserError(f"among takes a list of group ids, such as [0, 1]; got {groups!r}.")
    if chosen.min() < 0 or chosen.max() >= num_groups or np.unique(chosen).size < chosen.size:
        raise UserError(
            f"among takes distinct group ids in [0, {num_groups - 1}]; got {chosen.tolist()}."
        )
    return chosen


def _part_of(reference, chosen):
    """The reference that the chosen groups' samples alone would give, but for how far groups
    coincide with classes: all samples train the network."""
    accuracy, loss = reference.group_accuracy[chosen], reference.group_loss[chosen]
    frequency = reference.frequency[chosen]
    frequency = frequency / frequency.sum()
    count, share = (
        one if jnp.ndim(one) == 0 else jnp.asarray(one)[chosen]
        for one in (reference.count, reference.class_overlap)
    )
    return DenseReference(
        accuracy,
        (frequency * accuracy).sum(),
        loss,
        (frequency * loss).sum(),
        frequency,
        count,
        share,
    )
