"""Types that every package uses: arrays, batches and data sets.

Axis names used in shapes throughout: `batch` (samples of one step), `sample` (samples of a split),
`attribute` (ways in which samples are grouped), `group` (all groups of all attributes, numbered
consecutively), `class` (labels), `constraint` (for most methods one per group).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from bap_jax.errors import UserError

Array = jax.Array | np.ndarray
PyTree = Any
Params = PyTree
ModelState = PyTree


class Preprocess(Protocol):
    """From inputs as they are stored to inputs as the network takes them."""

    def __call__(self, inputs: PyTree, key: Array | None, train: bool, /) -> PyTree:
        """Normalises and augments; pure, part of the compiled step.

        Args:
          inputs: `(batch, ...)` as stored, for instance uint8; an array or a pytree of arrays.
          key: random key for augmentation, or None.
          train: a Python bool; augments only if it is True and there is a key.

        Returns:
          `(batch, ...)` as the network takes it.
        """
        ...


class Variables(NamedTuple):
    """The arrays of a network.

    Attributes:
      params: trainable arrays, the only ones that are pruned and differentiated.
      state: arrays that the forward pass itself updates (running statistics, dropout counters).
    """

    params: Params
    state: ModelState


class Dataset(NamedTuple):
    """Samples of one split, or one batch of them.

    Attributes:
      inputs: what the model takes: an array `(sample, ...)`, or a pytree of such arrays, as
        `{"tokens": …, "mask": …}`; on the host it may be a `bap_jax.data.Records` instead.
      labels: `(sample,)` int32 class ids; for a loss of your own `(sample, ...)`, or a tree of such
        arrays.
      group_ids: `(sample, attribute)` int32; one column for each attribute, ids unique over all
        attributes. An id outside `[0, group)` belongs to no group.
      dense_logits: `(sample, ...)` of the dense model, if a method needs them.
    """

    inputs: PyTree
    labels: PyTree
    group_ids: Array
    dense_logits: Array | None = None

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.group_ids.shape[0]


class ChannelGroup(NamedTuple):
    """Channels of a network that can only be removed together.

    A channel whose columns in the producers and whose entries in the vectors are 0 is itself 0, and
    adds nothing to the results of the consumers: it can be removed from all of them. The layers in
    between must map 0 to 0, each channel by itself: ReLU, pooling and dropout do; sigmoid and layer
    normalisation do not. Paths are written as `outer/inner/kernel`.

    Attributes:
      name: key of the group in the `widths` that `with_channels` takes.
      producers: kernels `(..., channel)` that write these channels.
      vectors: parameters `(channel,)` of these channels: biases, and scales and biases of norms.
      states: arrays `(channel,)` of the model state: running means and variances.
      consumers: kernels `(..., position · channel, out)` that read these channels, channels
        varying fastest; there are several positions where images are flattened.
      silent: whether a channel whose producers are 0 is 0 whatever its vectors and states hold, as
        after `bap_jax.models.batch_norm.BatchNorm`. Possible only if the producers have no bias.
      axes: axis of the channels in arrays that hold them elsewhere, by path, as in attention, where
        a channel is a head: `(in, head, feature)` in the kernels of queries, keys and values,
        `(head, feature)` in their biases, `(head, feature, out)` in the kernel that reads them.
    """

    name: str
    producers: tuple[str, ...]
    vectors: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    silent: bool = False
    axes: Mapping[str, int] | None = None

    def axis_of(self, path: str, ndim: int, read: bool = False) -> int:
        """The axis, from 0, of the channels in an array of `ndim` dimensions.

        Args:
          path: of the array.
          ndim: its dimensions.
          read: whether it is meant as a consumer.
        """
        return (self.axes or {}).get(path, -2 if read else -1) % max(ndim, 1)


def group_sizes(
    groups: Sequence[ChannelGroup],
    params: Mapping[str, Array],
    states: Mapping[str, Array] | None = None,
) -> tuple[int, ...]:
    """Number of channels in each group.

    Args:
      groups: which channels belong together.
      params: parameters by path; only shapes are read.
      states: arrays of the model state by path; by default the groups' states are not checked.

    Raises:
      UserError: a path is unknown or named twice in the same role, or shapes do not agree.
    """
    seen = set()
    for group in groups:
        roles = [("written", path) for path in (*group.producers, *group.vectors)]
        roles += [("state", path) for path in group.states]
        for role in roles + [("read", path) for path in group.consumers]:
            if role in seen:
                raise UserError(
                    f"the channels of {role[1]!r} are {role[0]} twice, the second time by group "
                    f"{group.name!r}; name each array once, and merge groups that share one."
                )
            seen.add(role)
    return tuple(_group_size(group, params, states) for group in groups)


def _group_size(group, params, states):
    if not group.producers:
        raise UserError(f"group {group.name!r} has no producers; name the kernels that write it.")
    _check_axes(group, params)
    first = _shape(group, group.producers[0], params)
    size = _length(group, group.producers[0], first) if len(first) > 1 else 1
    for path in group.producers:
        shape = _shape(group, path, params)
        fits = len(shape) > 1 and _length(group, path, shape) == size
        _check(fits, group, path, shape, f"(..., {size})", size)
    for path in group.consumers:
        shape = _shape(group, path, params)
        fits = len(shape) > 1 and _length(group, path, shape, read=True) % size == 0
        _check(fits, group, path, shape, f"(..., a multiple of {size}, out)", size)
    vectors = [(path, params) for path in group.vectors]
    vectors += [(path, states) for path in group.states if states is not None]
    for path, leaves in vectors:
        shape = _shape(group, path, leaves)
        fits = len(shape) == 1 or path in (group.axes or {})
        fits = fits and len(shape) > 0 and _length(group, path, shape) == size
        _check(fits, group, path, shape, f"({size},)", size)
    return size


def _length(group, path, shape, read=False):
    return shape[group.axis_of(path, len(shape), read)]


def _check_axes(group, params):
    """Checks that `axes` names arrays of the group and axes that they have."""
    known = (*group.producers, *group.vectors, *group.consumers)
    for path, axis in (group.axes or {}).items():
        if path not in known:
            raise UserError(
                f"axes of group {group.name!r} name {path!r}, which is not among its arrays "
                f"({', '.join(known)})."
            )
        ndim = len(_shape(group, path, params))
        if not -ndim <= axis < ndim:
            raise UserError(
                f"axes of group {group.name!r} say {axis} for {path!r}, which has {ndim} axes."
            )


def _check(fits, group, path, shape, expected, size):
    if not fits:
        axes = group.axes or {}
        expected = f"{size} channels on axis {axes[path]}" if path in axes else f"shape {expected}"
        raise UserError(
            f"group {group.name!r} expects {path!r} to have {expected}, to match its first "
            f"producer {group.producers[0]!r}; got {shape}."
        )


def _shape(group, path, leaves):
    if path not in leaves:
        raise UserError(
            f"group {group.name!r} names {path!r}, which does not exist; known paths: "
            f"{', '.join(leaves)}."
        )
    return tuple(leaves[path].shape)
