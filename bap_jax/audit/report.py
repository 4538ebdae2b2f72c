"""The report of one run: what became of each group on each split, as plain numbers."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from bap_jax.audit.gaps import accuracy_gaps
from bap_jax.pruning import leaf_paths
from bap_jax.training.evaluate import SplitMeans
from bap_jax.types import PyTree


def split_report(dense: SplitMeans, sparse: SplitMeans, names: Sequence[str]) -> dict[str, Any]:
    """One split: overall and for each group; accuracies and gaps as fractions."""
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
    """SHA-256 over paths, types, shapes and bytes of all leaves; equal trees give equal digests."""
    digest = hashlib.sha256()
    for path, leaf in zip(leaf_paths(tree), jax.tree.leaves(tree), strict=True):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.ascontiguousarray(np.asarray(leaf))
        digest.update(f"{path} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Of Python, the libraries that shape the numbers, and the device."""
    packages = ("bap_jax", "jax", "jaxlib", "flax", "optax", "numpy")
    found = {name: importlib.metadata.version(name) for name in packages}
    device = jax.devices()[0]
    return {"python": platform.python_version(), **found, "device": device.device_kind}
