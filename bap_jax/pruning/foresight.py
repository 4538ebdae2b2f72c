"""Criteria that score a network once, before any fine-tuning: SNIP and SynFlow.

    SNIP:     score_i = | w_i · Σ_batches ∂ℓ(w ⊙ m)/∂w_i |     (Lee et al. 2019, arXiv 1810.02340)
    SynFlow:  score_i = |w_i| · ∂R/∂|w_i| ,  R = 1ᵀ f(1; |θ| ⊙ m)
                                                      (Tanaka et al. 2020, arXiv 2006.05467)

Both prune in rounds: after round r of R a density of (1 − s)^(r/R) is left (de Jorge et al. 2021,
arXiv 2006.09081; Tanaka et al., algorithm 1). Every round computes the scores again, with pruned
weights at 0, and nothing grows back. Everything but the scores runs on the host.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.errors import UserError
from bap_jax.pruning.rounds import (
    check_finite,
    is_number,
    kept_by_round,
    leaf_sparsities,
    masked,
    merge,
    merge_masks,
    prunable_only,
    to_list,
)
from bap_jax.pruning.selection import keep_largest, keep_largest_jointly
from bap_jax.types import Array, Params, PyTree

SCOPES = ("global", "layer")


class BatchLoss(Protocol):
    """The loss of a batch."""

    def __call__(self, params: Params, batch: Any) -> Array:
        """`()`, the mean over the samples of the batch."""
        ...


class Flow(Protocol):
    """The sum of a network's outputs for an input of ones."""

    def __call__(self, params: Params) -> Array:
        """`()`, in evaluation mode; the parameters are absolute values in JAX's default float."""
        ...


def snip(
    loss: BatchLoss,
    params: Params,
    prunable: PyTree,
    sparsity: float | PyTree,
    batches: Iterable[Any],
    *,
    rounds: int = 100,
    scope: str = "global",
    counting: str = "ceil",
) -> PyTree:
    """Keeps the weights whose removal would change the loss the most, to first order.

    Gradients are summed over the batches before the absolute product is taken, so the batches act
    as one large batch; they should be of equal size.

    Args:
      loss: see `BatchLoss`; it is jitted.
      params: the parameters.
      prunable: a bool for each leaf.
      sparsity: fraction of the prunable weights to remove, in [0, 1). With `scope="layer"` also a
        tree of one fraction for each leaf, None where a leaf loses nothing.
      batches: read once and held in memory.
      rounds: how often scores are computed; 1 is the original SNIP.
      scope: `"global"` ranks all prunable weights together, `"layer"` those of each leaf.
      counting: rule of `kept_count`.

    Returns:
      Masks: uint8 of the leaf's shape for prunable leaves, None for the others.

    Raises:
      UserError: no batch, no prunable leaf, an argument out of range, or scores that are not
        finite.

    Source: Lee et al. 2019, arXiv 1810.02340; rounds: de Jorge et al. 2021, arXiv 2006.09081.
    """
    scores = loss_scorer(loss, params, prunable, to_list(batches))
    return _prune(scores, params, prunable, sparsity, rounds, scope, counting)


def synflow(
    forward: Flow,
    params: Params,
    prunable: PyTree,
    sparsity: float | PyTree,
    *,
    rounds: int = 100,
    scope: str = "global",
    counting: str = "ceil",
) -> PyTree:
    """Keeps the weights that carry the most of the flow from inputs to outputs; needs no data.

    In a chain of layers the scores of each layer have the same sum, so a layer with few weights
    left has large scores and is not emptied before the others.

    R grows by a factor with every layer. Only where it leaves the middle of float32's range, all
    prunable weights are multiplied by one number that just brings it back. In a chain of layers
    without biases this multiplies all scores by one number and changes no mask. Other parameters
    stay as they are, so paths through fewer prunable weights (from biases, or through skip
    connections) lose or gain share of the flow. To get the paper's scores there, call inside
    `jax.enable_x64(True)`: the flow is then computed in float64, as in the authors' code, unless
    `forward` itself casts to float32.

    Args:
      forward: see `Flow`; it is jitted. Running statistics should be those of initialisation
        (mean 0, variance 1), because a mean that is subtracted reduces the flow.
      params: the parameters.
      prunable: a bool for each leaf.
      sparsity: as in `snip`.
      rounds: how often scores are computed; 1 may empty a layer, the paper uses 100.
      scope: as in `snip`.
      counting: rule of `kept_count`.

    Returns:
      Masks: uint8 of the leaf's shape for prunable leaves, None for the others.

    Raises:
      UserError: no prunable leaf, an argument out of range, no flow that reaches the outputs, or
        parameters or scores that are not finite.

    Source: Tanaka et al. 2020, arXiv 2006.05467, algorithm 1.
    """
    params = jax.tree.map(_magnitude, params)
    everything = jax.tree.map(lambda leaf: True, params)
    check_finite(jax.tree.leaves(params), params, everything, "parameters")
    scores = flow_scorer(forward, params, prunable)
    return _prune(scores, params, prunable, sparsity, rounds, scope, counting)


def loss_scorer(
    loss: BatchLoss, params: Params, prunable: PyTree, batches: list[Any]
) -> Callable[[list[Array]], list[Array]]:
    """SNIP's scores: maps the prunable leaves to |w · Σ_batches ∂ℓ/∂w|, leaf by leaf."""

    @jax.jit
    def gradient(weights, params, batch):
        return jax.grad(lambda w: loss(merge(params, prunable, w), batch))(weights)

    def scores(weights):
        total = gradient(weights, params, batches[0])
        for batch in batches[1:]:
            total = jax.tree.map(jnp.add, total, gradient(weights, params, batch))
        return [_magnitude(w) * _magnitude(g) for w, g in zip(weights, total, strict=True)]

    return scores


def flow_scorer(
    forward: Flow, params: Params, prunable: PyTree
) -> Callable[[list[Array]], list[Array]]:
    """SynFlow's scores: maps the prunable leaves to w · ∂R/∂w, leaf by leaf.

    Weights and `params` are absolute values. Scores are those of the rescaled weights.
    """

    @jax.jit
    def flow(weights, params, factor):
        weights = [factor * w for w in weights]
        value_and_gradients = jax.value_and_grad(lambda w: forward(merge(params, prunable, w)))
        value, gradients = value_and_gradients(weights)
        products = [w * g for w, g in zip(weights, gradients, strict=True)]
        # XLA's maximum of NaN and 0 is 0 on the CPU: a ReLU may hide an overflow from R, but the
        # gradient of the next weights is infinity times something.
        sound = jnp.array([jnp.isfinite(score).all() for score in products]).all()
        return jnp.where(sound, value, jnp.nan), products

    return lambda weights: _flow_in_range(lambda power: flow(weights, params, 2.0**power))


def _prune(scores, params, prunable, sparsity, rounds, scope, counting):
    """Masks after all rounds; `scores` maps the masked prunable leaves to their scores."""
    kept = _kept(sparsity, params, prunable, rounds, scope, counting)
    keep: Any = keep_largest_jointly if scope == "global" else keep_largest
    leaves = prunable_only(params, prunable)
    masks = [jnp.ones(leaf.shape, jnp.uint8) for leaf in leaves]
    for counts in kept:
        values = scores(masked(leaves, masks))
        check_finite(values, params, prunable)
        pairs = zip(values, masks, strict=True)
        ranked = [jnp.where(mask != 0, score, -jnp.inf) for score, mask in pairs]
        masks = keep(ranked, counts)
    return merge_masks(params, prunable, masks)


def _kept(sparsity, params, prunable, rounds, scope, counting):
    """For each round the number of weights to keep, in total or for each prunable leaf."""
    if scope not in SCOPES:
        raise UserError(f"unknown scope {scope!r}; known: {', '.join(SCOPES)}.")
    if scope == "global" and not is_number(sparsity):
        raise UserError(
            "a global ranking takes one sparsity for all leaves; got a tree. Write scope='layer'."
        )
    sizes = [leaf.size for leaf in prunable_only(params, prunable)]
    each = leaf_sparsities(sparsity, params, prunable)
    if scope == "layer":
        return kept_by_round(each, sizes, rounds, counting)
    return [counts[0] for counts in kept_by_round(each[:1], [sum(sizes)], rounds, counting)]


def _flow_in_range(flow):
    """Scores at the weights as they are, or at a factor that brings R just into range.

    `flow` maps log2 of the factor to R and the scores. No weight is negative, so R grows with the
    factor, and bisection finds one that lands between the end of the range and a little inside.
    """
    value, scores = flow(0.0)
    as_given = value
    limit = float(jnp.finfo(value.dtype).maxexp)
    # In float32's range even where R is float64: what R is made of may have been cast.
    inside = min(32.0, 0.25 * limit)
    lowest, highest, low, high, power = -0.5 * limit, 0.8 * limit, -limit, limit, 0.0
    if _exponent(value) > highest:
        lowest = inside
    elif _exponent(value) < lowest:
        highest = -inside
    for _ in range(64):
        if lowest <= _exponent(value) <= highest:
            return scores
        low, high = (low, power) if _exponent(value) > highest else (power, high)
        power = (low + high) / 2
        value, scores = flow(power)
    raise UserError(
        "`forward` must be positive and finite at the absolute values of the parameters; "
        f"got {as_given}. Either no path of weights is left from the inputs to the outputs (a "
        "layer of zeros, or a sparsity too high: lower it), or something is subtracted on the way "
        "(running means: use those of initialisation)."
    )


def _exponent(value):
    """log2 of a flow; NaN, which follows from overflow, counts as infinity."""
    value = float(value)
    if value <= 0:
        return -np.inf
    return float(np.log2(value)) if np.isfinite(value) else np.inf


@jax.jit
def _magnitude(leaf):
    # The default float: float32, and float64 where the caller has enabled it.
    return jnp.abs(leaf).astype(float)
