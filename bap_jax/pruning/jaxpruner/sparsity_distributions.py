"""jaxpruner's `sparsity_distributions`: `params -> tree` of sparsities, None where nothing goes.

Maps of single sparsities may name leaves that a tree does not have, since users of several networks
list alternatives; a map of which no entry fits is an error.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax

from bap_jax.errors import UserError
from bap_jax.pruning import sparsity_distributions as _engine
from bap_jax.pruning.sparsity_distributions import KERNEL_FILTER_FN as KERNEL_FILTER_FN
from bap_jax.pruning.sparsity_distributions import NOT_DIM_ONE_FILTER_FN, SparsityMap
from bap_jax.types import Array, Params, PyTree

FilterFnType = Callable[[tuple[str, ...], Array], bool]
CustomSparsityMapType = SparsityMap


def uniform(
    params: Params,
    sparsity: Array | float,
    filter_fn: FilterFnType = NOT_DIM_ONE_FILTER_FN,
    custom_sparsity_map: CustomSparsityMapType | None = None,
) -> PyTree:
    """`bap_jax.pruning.sparsity_distributions.uniform`; a lone array is called `("kernel",)`."""
    return _engine.uniform(params, sparsity, filter_fn, custom_sparsity_map, unknown_paths="ignore")


def erk(
    param_tree: Params,
    sparsity: float,
    filter_fn: FilterFnType = NOT_DIM_ONE_FILTER_FN,
    custom_sparsity_map: CustomSparsityMapType | None = None,
    include_excluded_params: bool = False,
) -> PyTree:
    """`bap_jax.pruning.sparsity_distributions.erk`.

    With `include_excluded_params` all leaves count and are pruned, whatever the filter says.

    Raises:
      UserError: there is one array only, or as in that function.
    """
    if jax.tree_util.treedef_is_leaf(jax.tree.structure(param_tree)):
        # Spelled as there, because callers look for it.
        raise UserError("Single parameter is provided. Please provide a paramater tree.")
    if include_excluded_params:
        filter_fn = _every_leaf
    return _engine.erk(param_tree, sparsity, filter_fn, custom_sparsity_map, unknown_paths="ignore")


def _every_leaf(key, param):
    del key, param
    return True


def get_n_zeros(size: int, sparsity: float) -> int:
    """How many of `size` weights a sparsity removes, rounded down."""
    return math.floor(sparsity * size)


def get_sparsities_erdos_renyi(
    var_shape_dict: Mapping[Any, tuple[int, ...]],
    default_sparsity: float,
    custom_sparsity_map: Mapping[Any, float] | None = None,
    include_kernel: bool = True,
    erk_power_scale: float = 1.0,
) -> dict[Any, float]:
    """The Erdős–Rényi sparsities of tensors by name, from their shapes (arXiv 1911.11134).

    Args:
      var_shape_dict: shapes by name.
      default_sparsity: of all tensors together that the map does not name, in [0, 1].
      custom_sparsity_map: sparsities of some; other names in it have no effect.
      include_kernel: whether the window of a convolution counts, or the last two axes alone.
      erk_power_scale: power of the raw densities; below 1 sparsities differ less.

    Raises:
      UserError: no shapes, or a sparsity outside [0, 1].
    """
    if not var_shape_dict:
        raise UserError("Variable shape dictionary should not be empty.")
    if default_sparsity is None or not 0 <= default_sparsity <= 1:
        raise UserError(
            f"Default sparsity should be a value between 0 and 1; got {default_sparsity}."
        )
    custom = custom_sparsity_map or {}
    shapes = {name: shape for name, shape in var_shape_dict.items() if name not in custom}
    density = {
        name: _raw_density(shape, include_kernel, erk_power_scale) for name, shape in shapes.items()
    }
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    found = _scaled(density, sizes, default_sparsity)
    return {name: custom[name] if name in custom else found[name] for name in var_shape_dict}


def _raw_density(shape, include_kernel, power):
    if include_kernel:
        return (sum(shape) / math.prod(shape)) ** power
    inputs, outputs = shape[-2:]
    return (inputs + outputs) / (inputs * outputs)


def _scaled(density, sizes, sparsity):
    """1 minus the densities times the factor that gives the sparsity; none exceeds 1."""
    found = dict.fromkeys(sizes, 0.0)
    zeros = {name: get_n_zeros(size, sparsity) for name, size in sizes.items()}
    free = set(sizes)
    while free:
        # The free tensors must make up for the zeros that dense ones do not have.
        left = sum(sizes[name] for name in free) - sum(zeros.values())
        factor = left / sum(density[name] * sizes[name] for name in free)
        highest = max(density[name] for name in free)
        if highest * factor <= 1:
            return found | {name: 1.0 - factor * density[name] for name in free}
        free -= {name for name in free if density[name] == highest}
    return found
