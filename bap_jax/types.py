"""Words shared by every room of the house: arrays, batches, data sets, and the user's error.

Axis names used in shapes throughout: `batch` (samples of one step), `sample` (samples of a split),
`attribute` (ways in which samples are grouped), `group` (all groups of all attributes, numbered
consecutively), `class` (labels), `constraint` (one per group in this project's problems).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray
PyTree = Any
Params = PyTree
ModelState = PyTree

# `(inputs (batch, ...) as stored, key or None, train) -> inputs (batch, ...)` float32 of the
# network. Augments only where `train` is True and there is a key.
Preprocess = Callable[[Array, Array | None, bool], Array]


class UserError(ValueError):
    """A mistake in what the user supplied; the text says what was expected and what to write."""


def first_of(names: Sequence[str], at_most: int) -> str:
    """The first names, and how many more there are, as errors and tables list them."""
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return (", ".join(names[:at_most]) or "nothing") + more


class Variables(NamedTuple):
    """Everything that a network carries.

    Attributes:
      params: trainable arrays, the only ones that are pruned and differentiated.
      state: arrays that the forward pass itself moves (running statistics, dropout counters).
    """

    params: Params
    state: ModelState


class Dataset(NamedTuple):
    """Samples of one split, or one batch of them.

    Attributes:
      inputs: `(sample, ...)` what the model takes; on the host also a `bap_jax.data.Records` in
        place of an array.
      labels: `(sample,)` int32 class ids.
      group_ids: `(sample, attribute)` int32; one column for each attribute, ids unique over all
        attributes. An id outside `[0, group)` belongs to no group.
      dense_logits: `(sample, class)` of the dense model, where a method needs them.
    """

    inputs: Array
    labels: Array
    group_ids: Array
    dense_logits: Array | None = None

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.labels.shape[0]


class ChannelGroup(NamedTuple):
    """Channels of a network that live and die together.

    A channel whose producers' columns and whose vectors are 0 is itself 0, and so are the products
    that consumers make of it: it can be removed everywhere at once. What lies in between must lead
    0 to 0, each channel by itself: ReLU, pooling and dropout do; sigmoid and layer normalisation do
    not. Paths read `outer/inner/kernel`, as `bap_jax.pruning.leaf_paths` writes them.

    Attributes:
      name: by which a smaller network is told the group's width.
      producers: kernels `(..., channel)` that write these channels.
      vectors: parameters `(channel,)` of these channels: biases, scales and biases of norms.
      states: arrays `(channel,)` of the model state: running means and variances.
      consumers: kernels `(..., position · channel, out)` that read these channels, channels
        fastest; there are several positions where images are flattened.
      silent: whether a channel whose producers are 0 is 0 whatever its vectors and states hold, as
        behind `bap_jax.models.batch_norm.BatchNorm`. Only where the producers have no bias.
    """

    name: str
    producers: tuple[str, ...]
    vectors: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    silent: bool = False


def group_sizes(
    groups: Sequence[ChannelGroup],
    params: Mapping[str, Array],
    states: Mapping[str, Array] | None = None,
) -> tuple[int, ...]:
    """How many channels each group has.

    Args:
      groups: which channels go together.
      params: parameters by path; only shapes are read.
      states: arrays of the model state by path; by default the groups' states are not checked.

    Raises:
      UserError: a path is unknown or has one role in two places, or shapes do not agree.
    """
    seen = set()
    for group in groups:
        roles = [("written", path) for path in (*group.producers, *group.vectors)]
        roles += [("state", path) for path in group.states]
        for role in roles + [("read", path) for path in group.consumers]:
            if role in seen:
                raise UserError(
                    f"the channels of {role[1]!r} are {role[0]} twice, the second time by group "
                    f"{group.name!r}; name each array once, and join groups that share one."
                )
            seen.add(role)
    return tuple(_group_size(group, params, states) for group in groups)


def _group_size(group, params, states):
    if not group.producers:
        raise UserError(f"group {group.name!r} has no producers; name the kernels that write it.")
    first = _shape(group, group.producers[0], params)
    size = first[-1] if len(first) > 1 else 1
    for path in group.producers:
        shape = _shape(group, path, params)
        _check(len(shape) > 1 and shape[-1] == size, group, path, shape, f"(..., {size})")
    for path in group.consumers:
        shape = _shape(group, path, params)
        fits = len(shape) > 1 and shape[-2] % size == 0
        _check(fits, group, path, shape, f"(..., a multiple of {size}, out)")
    vectors = [(path, params) for path in group.vectors]
    vectors += [(path, states) for path in group.states if states is not None]
    for path, leaves in vectors:
        shape = _shape(group, path, leaves)
        _check(shape == (size,), group, path, shape, f"({size},)")
    return size


def _check(fits, group, path, shape, wanted):
    if not fits:
        raise UserError(
            f"group {group.name!r} expects {path!r} to have shape {wanted}, by its first producer "
            f"{group.producers[0]!r}; got {shape}."
        )


def _shape(group, path, leaves):
    if path not in leaves:
        raise UserError(
            f"group {group.name!r} names {path!r}, which is not there; known paths: "
            f"{', '.join(leaves)}."
        )
    return tuple(leaves[path].shape)
