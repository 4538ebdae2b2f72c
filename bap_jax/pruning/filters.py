"""Which leaves are pruned: presets over the kernels of a network, in the order it uses them."""

from collections.abc import Sequence

import jax

from bap_jax.types import Params, PyTree, UserError


def leaf_paths(params: PyTree) -> list[str]:
    """One path a leaf, `outer/inner/kernel`, in the order of `jax.tree.leaves`."""
    with_paths, _ = jax.tree_util.tree_flatten_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in with_paths]


def all_but_first_and_last(params: Params, kernel_order: Sequence[str]) -> PyTree:
    """Every kernel but the first convolution's and the last linear layer's (paper section 5).

    Args:
      params: the parameters.
      kernel_order: paths of the kernels in the order in which the network uses them; a kernel is a
        leaf of two dimensions (dense) or more (convolution).

    Returns:
      A bool for each leaf.

    Raises:
      UserError: nothing is left to prune.
    """
    ndim = dict(zip(leaf_paths(params), (leaf.ndim for leaf in jax.tree.leaves(params)), strict=True))
    kernels = [path for path in kernel_order if ndim[path] >= 2]
    dense = {path for path in kernels if ndim[path] == 2}
    spared = [path for path in kernels if path not in dense][:1]
    spared += [path for path in kernels if path in dense][-1:]
    chosen = set(kernels) - set(spared)
    if not chosen:
        raise UserError(
            "nothing to prune: apart from the first convolution and the last linear layer the "
            f"network has no kernel (kernels: {', '.join(kernels) or 'none'}). "
            "Give `prunable`, a list of paths, to choose yourself."
        )
    return select_paths(params, sorted(chosen))


def select_paths(params: Params, paths: Sequence[str]) -> PyTree:
    """True for the leaves named by `paths`.

    Raises:
      UserError: `paths` is empty or names no leaf; the message lists the known paths.
    """
    known = leaf_paths(params)
    unknown = [path for path in paths if path not in known]
    if unknown or not paths:
        what = f"unknown parameter path {unknown[0]!r}" if unknown else "no prunable path given"
        raise UserError(f"{what}; known paths: {', '.join(known)}.")
    return jax.tree.unflatten(jax.tree.structure(params), [path in paths for path in known])
