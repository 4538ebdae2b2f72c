"""jaxpruner's `utils`: summaries of parameters and masks, with None for leaves that are None."""

from collections.abc import Mapping

import jax

from bap_jax.pruning import jaxpruner_api as _engine
from bap_jax.trees import path_name
from bap_jax.types import Array, PyTree


def summarize_sparsity(
    param_tree: PyTree, only_total_sparsity: bool = False
) -> Mapping[str, Array | None]:
    """`bap_jax.pruning.summarize_sparsity`, with None for leaves that are None."""
    summary = _engine.summarize_sparsity(param_tree, only_total_sparsity)
    return summary if only_total_sparsity else _absent(param_tree) | summary


def summarize_intersection(
    mask_tree1: PyTree, mask_tree2: PyTree, only_total_intersection: bool = False
) -> Mapping[str, Array | None]:
    """`bap_jax.pruning.summarize_intersection`, with None for leaves that are None."""
    summary = _engine.summarize_intersection(mask_tree1, mask_tree2, only_total_intersection)
    return summary if only_total_intersection else _absent(mask_tree1) | summary


def _absent(tree):
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda leaf: leaf is None)
    return {path_name(path): None for path, leaf in leaves if leaf is None}
