"""Masks made real: a smaller network without the channels that are gone.

A channel c of a group is dead where

    every producer k of the group has  k[..., c] ⊙ m[..., c] = 0                     and
    v_c = 0 for every vector v of the group that is no scale                          and
    μ_c = 0 or γ_c = 0 for every running mean μ of the group and its norm's scale γ,

where the last two lines do not matter for groups that are `silent`. Dead channels are cut out of
producers, vectors and states, and their rows out of the consumers. What remains computes the same.

Two traps. A group of which every channel is dead keeps one, for shapes to stay valid. And the
masked `BatchNorm` takes a column of weights for active even where all that it reads is dead: its
output is then a constant, which would vanish with the last of these weights. So where there are
silent groups, enough dead channels stay that no active column of a consumer becomes empty.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bap_jax.models.adapt import adapt
from bap_jax.models.base import Model
from bap_jax.models.channels import channel_groups
from bap_jax.models.linen import from_linen, join
from bap_jax.models.precision import in_precision
from bap_jax.models.preprocessed import with_preprocessing
from bap_jax.trees import leaves_by_path
from bap_jax.types import Array, ChannelGroup, PyTree, UserError, Variables, group_sizes


def compact(
    network: Any,
    masks: PyTree,
    variables: Any = None,
    groups: Sequence[ChannelGroup] | None = None,
) -> Any:
    """A smaller network that computes what the masked one does. Not to be used under `jit`.

    Weights that masks remove from channels that stay are 0. Where no channel is dead, the network
    comes back as it is.

    Args:
      network: a Linen module with the methods that `bap_jax.models.channels` names, a `Model` of
        one, or an `nnx.Module`, which is left alone itself.
      masks: a tree like the parameters, whose leaves are masks of the parameters' shapes or None;
        for NNX like the parameters of `from_nnx`. None for parameters that are masked already.
      variables: for a Linen module the dict that `module.init` returns, for a `Model` its
        `Variables`; an NNX module holds its own.
      groups: which channels go together; by default what `network.channel_groups()` says. In NNX,
        states are named as in `nnx.to_pure_dict`, such as `norm/mean`.

    Returns:
      For NNX the smaller module. Else the smaller network, of the kind given, and its variables.

    Raises:
      UserError: the network does not tell its groups or cannot be built smaller, masks or groups
        do not fit the parameters, or `variables` does not go with the network.
    """
    _, variables = adapt(network, variables)
    if isinstance(network, Model) and network.module is None:
        raise UserError(
            "this Model wraps no Linen module that could be built smaller; give the Linen module "
            "and its variables, or the nnx.Module itself, in its place."
        )
    groups = channel_groups(network) if groups is None else tuple(groups)
    if isinstance(network, nnx.Module):
        return _compact_nnx(network, masks, variables, groups)
    module = network.module if isinstance(network, Model) else network
    if not callable(getattr(module, "with_channels", None)):
        raise UserError(
            f"{type(module).__name__} cannot be built with fewer channels. Write a method "
            "with_channels(self, widths) on the Linen module that returns the module with "
            "widths[name] channels in the group of that name."
        )
    before, after, variables = remove_channels(variables, masks, groups)
    if after != before:
        module = module.with_channels(after)
        network = _like_model(network, module) if isinstance(network, Model) else module
    return network, variables if isinstance(network, Model) else join(variables)


def _like_model(model, module):
    small = in_precision(from_linen(module), model.precision)
    return with_preprocessing(small, model.preprocess) if model.preprocess else small


def remove_channels(
    variables: Variables, masks: PyTree, groups: Sequence[ChannelGroup]
) -> tuple[dict[str, int], dict[str, int], Variables]:
    """Cuts dead channels out of arrays.

    Args:
      variables: parameters and state.
      masks: a tree like the parameters with None where nothing is masked, or None.
      groups: which channels go together.

    Returns:
      Widths by name of group before and after, and the smaller variables.

    Raises:
      UserError: masks or groups do not fit the parameters.
    """
    params = leaves_by_path(_masked(variables.params, masks))
    state = leaves_by_path(variables.state)
    sizes = group_sizes(groups, params, state)
    silent = any(group.silent for group in groups)
    kept = [_kept(group, params, state, silent) for group in groups]
    for group, size, stay in zip(groups, sizes, kept, strict=True):
        if len(stay) < size:
            _cut(group, size, stay, params, state)
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
    given, other = jax.tree.flatten(masks, is_leaf=lambda leaf: leaf is None)
    pairs = list(zip(given, leaves, strict=False))
    if structure != other or any(m is not None and np.shape(m) != np.shape(w) for m, w in pairs):
        raise UserError(
            "masks must be a tree like the parameters, each leaf None or a mask of the parameter's "
            f"shape; got masks {jax.tree.map(np.shape, masks)} of parameters "
            f"{jax.tree.map(np.shape, params)}."
        )
    kept = [w if m is None else np.where(m, w, 0).astype(w.dtype) for m, w in pairs]
    return jax.tree.unflatten(structure, kept)


def _kept(group, params, state, silent) -> Array:
    """Indices of the channels that stay."""
    keep = ~_dead(group, params, state)
    if silent:
        # Which inputs lead to which columns, (channel, column), positions taken together.
        feeds = [np.asarray(params[path]) != 0 for path in group.consumers]
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
    kernels = [np.asarray(params[path]) for path in group.producers]
    dead = np.all([(k == 0).all(tuple(range(k.ndim - 1))) for k in kernels], axis=0)
    if group.silent:
        return dead
    scales = {path for path in group.vectors if path.split("/")[-1] == "scale"}
    for path in group.vectors:
        if path not in scales:
            dead &= np.asarray(params[path]) == 0
    for path in group.states:
        norm, _, kind = path.rpartition("/")
        if kind == "mean":
            of_norm = [s for s in scales if f"/{norm}/scale".endswith(f"/{s}")]
            quiet = [np.asarray(array) == 0 for array in (state[path], *map(params.get, of_norm))]
            dead &= np.any(quiet, axis=0)
    return dead


def _cut(group, size, stay, params, state):
    """Leaves the channels `stay` of one group in the dicts `params` and `state`."""
    for leaves, paths in ((params, (*group.producers, *group.vectors)), (state, group.states)):
        for path in paths:
            leaves[path] = np.asarray(leaves[path])[..., stay]
    for path in group.consumers:
        rows = np.arange(params[path].shape[-2]).reshape(-1, size)[:, stay].ravel()
        params[path] = np.asarray(params[path])[..., rows, :]


def _like(tree, leaves):
    # Cut by NumPy, which compiles nothing for each new shape.
    arrays = [jnp.asarray(x) if isinstance(x, np.ndarray) else x for x in leaves.values()]
    return jax.tree.unflatten(jax.tree.structure(tree), arrays)


def _compact_nnx(module, masks, variables, groups):
    _check_layers(module, groups)
    graph, _, state = nnx.split(module, nnx.Param, ...)
    state = jax.tree.map(lambda leaf: leaf, state)  # its containers are the module's own
    pure = Variables(variables.params, nnx.to_pure_dict(state))
    _, _, pure = remove_channels(pure, masks, groups)
    nnx.replace_by_pure_dict(state, pure.state)
    small = nnx.merge(graph, nnx.State(pure.params), state, copy=True)
    _tell_shapes(small, groups, leaves_by_path(pure.params))
    return small


def _check_layers(module, groups):
    """Refuses layers of which single channels cannot be removed."""
    layers = _layers_of(module)
    for group in groups:
        for path in (*group.producers, *group.vectors, *group.consumers):
            layer = layers.get(path.rpartition("/")[0])
            mixes = isinstance(layer, nnx.LayerNorm | nnx.RMSNorm | nnx.GroupNorm)
            if mixes or getattr(layer, "feature_group_count", 1) != 1:
                raise UserError(
                    f"group {group.name!r} names {path!r} of a {type(layer).__name__} that takes "
                    "several channels together, so that none can be removed by itself; "
                    "leave the group out of groups=."
                )


def _tell_shapes(module, groups, params):
    """Brings what NNX layers say of their own shapes in line with their arrays."""
    layers = _layers_of(module)
    for group in groups:
        for path in (*group.producers, *group.vectors, *group.consumers):
            layer, shape = layers.get(path.rpartition("/")[0]), tuple(params[path].shape)
            told = {"num_features": shape[-1]}
            if len(shape) > 1:
                told = {"kernel_shape": shape, "in_features": shape[-2], "out_features": shape[-1]}
            for name in filter(lambda name: hasattr(layer, name), told):
                setattr(layer, name, told[name])


def _layers_of(module):
    return {"/".join(map(str, path)): layer for path, layer in nnx.iter_modules(module)}
