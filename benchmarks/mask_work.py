"""Masks of a ResNet-50's weights: by the package, and by sorting all scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax import pruning
from bap_jax.pruning import sparsity_distributions, sparsity_types

SPARSITY, END = 0.9, 100


def resnet50_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of the 161 parameters of a ResNet-50, 25.6 million weights."""
    shapes = {"stem/conv": (7, 7, 3, 64), "stem/norm": (64,)}
    width_in, block = 64, 0
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for position in range(blocks):
            kernels = [(1, 1, width_in, width), (3, 3, width, width), (1, 1, width, 4 * width)]
            if position == 0:
                kernels.append((1, 1, width_in, 4 * width))
            for i, kernel in enumerate(kernels):
                shapes[f"block_{block}/conv_{i}"] = kernel
                shapes[f"block_{block}/norm_{i}"] = kernel[-1:]
            width_in, block = 4 * width, block + 1
    norms = {f"{name}_bias": shape for name, shape in shapes.items() if len(shape) == 1}
    return {**shapes, **norms, "head/kernel": (2048, 1000), "head/bias": (1000,)}


def make_params(small: bool) -> dict[str, jax.Array]:
    """Random weights of a ResNet-50, or two small leaves; nothing has to be compiled for them."""
    shapes = {"a": (8, 8), "b": (8,)} if small else resnet50_shapes()
    rng = np.random.default_rng(0)
    return {
        name: jnp.asarray(rng.standard_normal(shape, np.float32)) for name, shape in shapes.items()
    }


def make_updater(joint: bool = False) -> pruning.BaseUpdater:
    """Magnitude pruning whose sparsity changes with every step."""
    scheduler = pruning.PolynomialSchedule(1, 0, END)
    if joint:
        return pruning.GlobalMagnitudePruning(scheduler=scheduler, sparsity=SPARSITY)
    uniform = functools.partial(sparsity_distributions.uniform, sparsity=SPARSITY)
    return pruning.MagnitudePruning(scheduler=scheduler, sparsity_distribution_fn=uniform)


@jax.jit
def argsort_each(params, kept_share):
    """The mask of every kernel from its sorted scores."""
    return {name: _argsort(w, kept_share) for name, w in params.items() if w.ndim > 1}


@jax.jit
def argsort_jointly(params, kept_share):
    """One mask from the sorted, normalised scores of all kernels."""
    kernels = [jnp.abs(w) for w in params.values() if w.ndim > 1]
    flat = [(w / (jnp.linalg.norm(w) + 1e-8)).ravel() for w in kernels]
    return _argsort(jnp.concatenate(flat), kept_share)


def _argsort(weight, kept_share):
    score = jnp.abs(weight).ravel()
    count = jnp.maximum(1, jnp.round(score.size * kept_share)).astype(jnp.int32)
    rank = jnp.argsort(-score)
    last = rank[count - 1]
    tied = score == score[last]
    keep = (score > score[last]) | (tied & (jnp.arange(score.size) <= last))
    return keep.astype(jnp.uint8).reshape(weight.shape)


def make_group_updater(keep: int, of: int) -> pruning.BaseUpdater:
    """Magnitude pruning that keeps `keep` weights of every `of` in a row along the inputs."""
    kept = functools.partial(sparsity_distributions.uniform, sparsity=1 - keep / of)
    return pruning.MagnitudePruning(
        sparsity_type=sparsity_types.NByM(keep, of),
        scheduler=pruning.PolynomialSchedule(1, 0, END),
        sparsity_distribution_fn=kept,
    )


@functools.partial(jax.jit, static_argnums=(1, 2))
def sort_groups(params, keep, of):
    """The same masks, except for ties, of kernels whose inputs divide by `of`, from a sort."""
    return {name: _keep_largest(w, keep, of) for name, w in params.items()}


def _keep_largest(weight, keep, of):
    rows = jnp.moveaxis(jnp.abs(weight), -2, -1)
    groups = rows.reshape(*rows.shape[:-1], -1, of)
    last = jnp.sort(groups, axis=-1)[..., of - keep, None]
    return jnp.moveaxis((groups >= last).astype(jnp.uint8).reshape(rows.shape), -1, -2)
