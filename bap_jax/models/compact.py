"""A smaller network, without the channels that masks have removed.

A channel c of a group is dead where

    every producer k of the group has  k[..., c] ⊙ m[..., c] = 0                     and
    v_c = 0 for every vector v of the group that is not a scale                       and
    μ_c = 0 or γ_c = 0 for every running mean μ of the group and its norm's scale γ,

where groups that are `silent` need only the first line. Dead channels are cut out of producers,
vectors and states, and their rows out of the consumers. The rest computes the same results.

There are two traps. A group in which every channel is dead keeps one channel, so that shapes stay
valid. And the masked `BatchNorm` counts a channel as active if it has a weight left, even if all
that this weight reads is dead: the output is then a constant, which would vanish with the last such
weight. Where there are silent groups, enough dead channels are therefore kept that no active column
of a consumer becomes empty.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bap_jax.errors import UserError
from bap_jax.models.adapt import adapt
from bap_jax.models.base import Model
from bap_jax.models.channels import channel_groups
from bap_jax.models.linen import from_linen, join
from bap_jax.models.nnx import from_nnx, trainable
from bap_jax.models.precision import in_precision
from bap_jax.models.preprocessed import with_preprocessing
from bap_jax.trees import leaves_by_path
from bap_jax.types import Array, ChannelGroup, PyTree, Variables, group_sizes


def compact(
    network: Any,
    masks: PyTree,
    variables: Any = None,
    groups: Sequence[ChannelGroup] | None = None,
) -> Any:
    """A smaller network that computes the same as the masked one. Do not use it under `jit`.

    In channels that stay, weights that the masks remove are 0. If no channel is dead, the network
    itself is returned.

    Args:
      network: a Linen module with the methods that `bap_jax.models.channels` names, an
        `nnx.Module`, which is not changed, or a `Model` of either.
      masks: a tree like the parameters, whose leaves are masks of the parameters' shapes or None;
        for NNX like the parameters of `from_nnx`. None if the parameters are already masked.
      variables: for a Linen module the dict that `module.init` returns, for a `Model` its
        `Variables`; an NNX module holds its own.
      groups: which channels belong together; by default `network.channel_groups()`. In NNX, states
        are named as in `nnx.to_pure_dict`, such as `norm/mean`.

    Returns:
      For NNX the smaller module, otherwise a pair: the smaller network, a module or `Model` as it
      was given, and its variables.

    Raises:
      UserError: the network does not say which channels belong together or cannot be built smaller,
        masks or groups do not fit the parameters, or `variables` does not fit the network.

    Example:
      >>> from bap_jax.models import MLP
      >>> network, inputs = MLP((3, 2)), jnp.ones((1, 4))
      >>> variables = network.init(jax.random.key(0), inputs)
      >>> masks = jax.tree.map(jnp.ones_like, variables["params"])
      >>> masks["dense_0"]["kernel"] = masks["dense_0"]["kernel"].at[:, 0].set(0)
      >>> small, small_variables = compact(network, masks, variables)
      >>> small.features
      (2, 2)
    """
    # How the network is called does not matter here.
    apply = None if isinstance(network, Model) else lambda module, inputs, train: module(inputs)
    _, variables = adapt(network, variables, apply)
    if isinstance(network, Model) and network.module is None:
        raise UserError(
            "this Model has no module that could be built smaller; pass the Linen module and its "
            "variables, or the nnx.Module itself, instead."
        )
    groups = channel_groups(network) if groups is None else tuple(groups)
    if isinstance(network, nnx.Module):
        return _compact_nnx(network, masks, variables, groups)
    module = network.module if isinstance(network, Model) else network
    if isinstance(module, nnx.Module):
        return _compact_nnx_model(network, masks, variables, groups)
    if not callable(getattr(module, "with_channels", None)):
        raise UserError(
            f"{type(module).__name__} cannot be built with fewer channels. Write a method "
            "with_channels(self, widths) on the Linen module that returns the module with "
            "widths[name] channels in the group of that name."
        )
    before, after, variables = _remove_channels(variables, masks, groups)
    if after != before:
        module = module.with_channels(after)
        network = _like_model(network, module) if isinstance(network, Model) else module
    return network, variables if isinstance(network, Model) else join(variables)


def _like_model(model, module):
    return _in_the_manner_of(model, from_linen(module, model.call))


def _in_the_manner_of(model, small):
    small = in_precision(small, model.precision)
    return with_preprocessing(small, model.preprocess) if model.preprocess else small


def _compact_nnx_model(model, masks, variables, groups):
    small = _compact_nnx(model.export(variables), masks, variables, groups)
    small_model, small_variables = from_nnx(small, model.call)
    return _in_the_manner_of(model, small_model), small_variables


def _remove_channels(
    variables: Variables, masks: PyTree, groups: Sequence[ChannelGroup]
) -> tuple[dict[str, int], dict[str, int], Variables]:
    """Cuts dead channels out of arrays.

    Args:
      variables: parameters and state.
      masks: a tree like the parameters with None where nothing is masked, or None.
      groups: which channels belong together.

    Returns:
      Widths before and after, by name of group, and the smaller variables.

    Raises:
      UserError: masks or groups do not fit the parameters.
    """
    params = leaves_by_path(_masked(variables.params, masks))
    state = leaves_by_path(variables.state)
    sizes = group_sizes(groups, params, state)
    silent = any(group.silent for group in groups)
    kept = [_kept(group, params, state, silent) for group in groups]
    for group, size, channels in zip(groups, sizes, kept, strict=True):
        if len(channels) < size:
            _cut(group, size, channels, params, state)
    names = [group.name for group in groups]
    return (
        dict(zip(names, sizes, strict=True)),
        dict(zip(names, map(len, kept), strict=True)),
        Variables(_like(variables.params, params), _like(variables.state, state)),
    )


def _masked(params, masks):
    if masks is None:
        return params
    leaves, structure = jax.tree.flatten(params)
    mask_leaves, mask_structure = jax.tree.flatten(masks, is_leaf=lambda leaf: leaf is None)
    pairs = list(zip(mask_leaves, leaves, strict=False))
    fits = all(m is None or np.shape(m) == np.shape(w) for m, w in pairs)
    if structure != mask_structure or not fits:
        raise UserError(
            "masks must be a tree like the parameters, each leaf None or a mask of the parameter's "
            f"shape; got masks {jax.tree.map(np.shape, masks)} of parameters "
            f"{jax.tree.map(np.shape, params)}."
        )
    masked = [w if m is None else np.where(m, w, 0).astype(w.dtype) for m, w in pairs]
    return jax.tree.unflatten(structure, masked)


def _kept(group, params, state, silent) -> Array:
    """Indices of the channels that stay."""
    keep = ~_dead(group, params, state)
    if silent:
        # (channel, column): whether a consumer's column reads a channel, at any position.
        feeds = [_to(-2, group, path, params, read=True) != 0 for path in group.consumers]
        feeds = [kernel.reshape(-1, keep.size, kernel.shape[-1]).any(0) for kernel in feeds]
        feeds = np.concatenate([np.zeros((keep.size, 0), bool), *feeds], axis=1)
        empty = feeds.any(0) & ~feeds[keep].any(0)
        while empty.any():
            keep[feeds[:, empty].sum(1).argmax()] = True
            empty = feeds.any(0) & ~feeds[keep].any(0)
    keep[0] |= not keep.any()
    return np.flatnonzero(keep)


def _dead(group, params, state):
    """`(channel,)` bool: channels that contribute nothing."""
    arrays = {path: _to(-1, group, path, params) for path in (*group.producers, *group.vectors)}
    is_zero = {path: (a == 0).all(tuple(range(a.ndim - 1))) for path, a in arrays.items()}
    dead = np.all([is_zero[path] for path in group.producers], axis=0)
    if group.silent:
        return dead
    scales = {path for path in group.vectors if path.split("/")[-1] == "scale"}
    for path in group.vectors:
        if path not in scales:
            dead &= is_zero[path]
    for path in group.states:
        norm, _, kind = path.rpartition("/")
        if kind == "mean":
            norm_scales = [params[s] for s in scales if f"/{norm}/scale".endswith(f"/{s}")]
            silenced = [np.asarray(array) == 0 for array in (state[path], *norm_scales)]
            dead &= np.any(silenced, axis=0)
    return dead


def _to(axis, group, path, leaves, read=False):
    """An array whose channels lie on `axis`."""
    array = np.asarray(leaves[path])
    return np.moveaxis(array, group.axis_of(path, array.ndim, read), axis)


def _cut(group, size, channels, params, state):
    """Keeps only these `channels` of one group in the dicts `params` and `state`."""
    for leaves, paths in ((params, (*group.producers, *group.vectors)), (state, group.states)):
        for path in paths:
            axis = group.axis_of(path, np.ndim(leaves[path]))
            leaves[path] = np.take(np.asarray(leaves[path]), channels, axis)
    for path in group.consumers:
        axis = group.axis_of(path, np.ndim(params[path]), read=True)
        rows = np.arange(params[path].shape[axis]).reshape(-1, size)[:, channels].ravel()
        params[path] = np.take(np.asarray(params[path]), rows, axis)


def _like(tree, leaves):
    # Cut by NumPy, because JAX would compile a program for each new shape.
    arrays = [jnp.asarray(x) if isinstance(x, np.ndarray) else x for x in leaves.values()]
    return jax.tree.unflatten(jax.tree.structure(tree), arrays)


def _compact_nnx(module, masks, variables, groups):
    _check_layers(module, groups)
    graph, _, state = nnx.split(module, trainable, ...)
    state = jax.tree.map(lambda leaf: leaf, state)  # a copy: the containers belong to the module
    pure = Variables(variables.params, nnx.to_pure_dict(state))
    _, _, pure = _remove_channels(pure, masks, groups)
    nnx.replace_by_pure_dict(state, pure.state)
    small = nnx.merge(graph, nnx.State(pure.params), state, copy=True)
    _set_shapes(small, groups, leaves_by_path(pure.params))
    return small


def _check_layers(module, groups):
    """Checks that single channels of the layers can be removed."""
    layers = _layers_of(module)
    for group in groups:
        for path in (*group.producers, *group.vectors, *group.consumers):
            layer = layers.get(path.rpartition("/")[0])
            mixes = isinstance(layer, nnx.LayerNorm | nnx.RMSNorm | nnx.GroupNorm)
            if mixes or getattr(layer, "feature_group_count", 1) != 1:
                raise UserError(
                    f"group {group.name!r} names {path!r} of a {type(layer).__name__}, which "
                    "combines several channels, so that none can be removed by itself; leave the "
                    "group out of groups=."
                )


def _set_shapes(module, groups, params):
    """Sets the attributes in which NNX layers keep their shapes to those of their arrays."""
    layers = _layers_of(module)
    for group in groups:
        for path in (*group.producers, *group.vectors, *group.consumers):
            layer, shape = layers.get(path.rpartition("/")[0]), tuple(params[path].shape)
            sizes = {"num_features": shape[-1]}
            if isinstance(layer, nnx.LinearGeneral):
                kernel = tuple(layer.kernel.shape)
                split = len(kernel) - len(layer.out_features)
                sizes = {"in_features": kernel[:split], "out_features": kernel[split:]}
            elif len(shape) > 1:
                sizes = {"kernel_shape": shape, "in_features": shape[-2], "out_features": shape[-1]}
            for name in filter(lambda name: hasattr(layer, name), sizes):
                setattr(layer, name, sizes[name])
    for layer in layers.values():
        if isinstance(layer, nnx.MultiHeadAttention):
            layer.num_heads, layer.num_kv_heads = (
                part.out_features[0] for part in (layer.query, layer.key)
            )
            layer.qkv_features = layer.num_heads * layer.head_dim


def _layers_of(module):
    return {"/".join(map(str, path)): layer for path, layer in nnx.iter_modules(module)}
