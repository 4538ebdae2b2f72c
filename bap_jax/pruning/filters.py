"""Which leaves are pruned: presets over the kernels of a network, in the order it uses them."""

from collections.abc import Sequence

import jax

from bap_jax.types import Params, PyTree, UserError


def leaf_paths(params: PyTree) -> list[str]:
    """One path a leaf, `outer/inner/kernel`, in the order of `jax.tree.leaves`."""
    with_paths, _ = jax.tree_util.tree_flatten_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in with_paths]


def kernels(params: Params, kernel_order: Sequence[str]) -> list[str]:
    """Paths of all kernels: leaves of two dimensions (dense) or more (convolution) that a matrix
    product or a convolution uses.

    Args:
      params: the parameters.
      kernel_order: paths in the order in which the network uses them.
    """
    ndim = _dimensions(params)
    return [path for path in kernel_order if ndim[path] >= 2]


def all_but_first_and_last(params: Params, kernel_order: Sequence[str]) -> list[str]:
    """Every kernel but the first convolution's and the last linear layer's (paper section 5)."""
    ndim, paths = _dimensions(params), kernels(params, kernel_order)
    spared = [path for path in paths if ndim[path] > 2][:1]
    spared += [path for path in paths if ndim[path] == 2][-1:]
    return [path for path in paths if path not in spared]


PRESETS = {"all_but_first_and_last": all_but_first_and_last, "kernels": kernels}


def prunable_leaves(choice: str, params: Params, kernel_order: Sequence[str]) -> PyTree:
    """Args:
      choice: a key of `PRESETS`, or paths joined by commas.
      params: the parameters.
      kernel_order: paths of the kernels in the order in which the network uses them.

    Returns:
      A bool for each leaf.

    Raises:
      UserError: a path is unknown, or nothing is left to prune.
    """
    if choice not in PRESETS:
        return select_paths(params, [path.strip() for path in choice.split(",")])
    chosen = PRESETS[choice](params, kernel_order)
    if not chosen:
        raise UserError(
            f"nothing to prune: {choice!r} leaves none of the network's kernels "
            f"({', '.join(kernels(params, kernel_order)) or 'it has none'}). "
            f"Write another preset ({', '.join(PRESETS)}) or paths joined by commas."
        )
    return select_paths(params, chosen)


def _dimensions(params):
    return dict(zip(leaf_paths(params), (x.ndim for x in jax.tree.leaves(params)), strict=True))


def select_paths(params: Params, paths: Sequence[str]) -> PyTree:
    """True for the leaves named by `paths`.

    Raises:
      UserError: one of `paths` names no leaf; the message lists the known paths.
    """
    known = leaf_paths(params)
    for path in paths:
        if path not in known:
            raise UserError(
                f"unknown parameter path {path!r}; known paths: {', '.join(known)}; "
                f"known presets: {', '.join(PRESETS)}."
            )
    return jax.tree.unflatten(jax.tree.structure(params), [path in paths for path in known])
