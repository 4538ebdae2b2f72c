"""Small arrays of one kind, written by a loop as one: it writes each of its results separately."""

import jax
import jax.numpy as jnp

from bap_jax.types import Array, PyTree

_LARGEST_PACKED = 4096  # elements of an array that is written together with others


def pack(tree: PyTree) -> tuple[list[Array], PyTree]:
    """Small arrays of one shape and type as one: a loop writes each of its results separately.

    Returns:
      The arrays, and for each leaf which of them holds it, and where (None: it is the array).
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, tree))
    kinds = {}
    for i, leaf in enumerate(leaves):
        alone = i if leaf.size > _LARGEST_PACKED else None
        kinds.setdefault((leaf.shape, leaf.dtype, alone), []).append(i)
    places: list[tuple[int, int | None]] = [(0, None)] * len(leaves)
    for row, members in enumerate(kinds.values()):
        for k, i in enumerate(members):
            places[i] = (row, k if len(members) > 1 else None)
    packed = [
        jnp.stack([leaves[i] for i in members]) if len(members) > 1 else leaves[members[0]]
        for members in kinds.values()
    ]
    return packed, (structure, places)


def unpack(packed: list[Array], how: PyTree) -> PyTree:
    """The tree from arrays `(step, ...)` of `pack`."""
    structure, places = how
    leaves = [packed[row] if k is None else packed[row][:, k] for row, k in places]
    return jax.tree.unflatten(structure, leaves)
