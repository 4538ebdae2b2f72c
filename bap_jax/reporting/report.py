"""The parts of a run's report that describe splits, arrays and versions, as plain values."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.reporting.gaps import accuracy_gaps
from bap_jax.training.split_sums import SplitMeans
from bap_jax.trees import leaves_by_path
from bap_jax.types import PyTree


def split_report(dense: SplitMeans, sparse: SplitMeans, names: Sequence[str]) -> dict[str, Any]:
    """The report of one split, overall and for each group; accuracies and gaps are fractions.

    Args:
      dense, sparse: means of the two models on the split.
      names: `(group,)` names of the groups.

    Returns:
      What `report.json` holds of a split, see docs/outputs.md.
    """
    gaps = accuracy_gaps(dense, sparse)
    columns = {
        "n": sparse.group_count,
        "dense_accuracy": dense.group_accuracy,
        "sparse_accuracy": sparse.group_accuracy,
        "gap": gaps.group_gap,
        "excess_gap": gaps.excess_gap,
    }
    groups = [
        {"name": name} | {key: column[i].item() for key, column in columns.items()}
        for i, name in enumerate(names)
    ]
    return {
        "n": sparse.count,
        "dense_accuracy": dense.accuracy,
        "sparse_accuracy": sparse.accuracy,
        "overall_gap": gaps.overall_gap,
        "max_excess_gap": float(gaps.excess_gap.max()),
        "min_excess_gap": float(gaps.excess_gap.min()),
        "pairwise_disparity": gaps.pairwise_disparity,
        "groups": groups,
    }


def tree_sha256(tree: PyTree) -> str:
    """SHA-256 of a tree of arrays, in hex.

    The digest covers the paths, types, shapes and bytes of all leaves, so that trees with equal
    digests are equal.

    Example:
      >>> tree_sha256({"w": np.zeros(2)}) == tree_sha256({"w": np.zeros(2, np.int32)})
      False
    """
    digest = hashlib.sha256()
    for path, leaf in leaves_by_path(tree, with_boxes=True).items():
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.ascontiguousarray(np.asarray(leaf))
        digest.update(f"{path} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the numbers depend on, and the device's kind.

    A package that is read from a folder of sources, without having been installed, has the version
    `not installed`.
    """
    packages = ("bap_jax", "jax", "jaxlib", "flax", "optax", "numpy")
    installed = {name: _version(name) for name in packages}
    device = jax.devices()[0]
    return {"python": platform.python_version(), **installed, "device": device.device_kind}


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
