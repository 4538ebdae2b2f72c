"""One ranking over all leaves, so that a leaf of small scores loses more.

Scores of a leaf are divided by their norm first, unless `use_normalization` is False.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.errors import UserError
from bap_jax.pruning import layerwise_pruners, sparsity_distributions
from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.counting import kept_count
from bap_jax.pruning.layers import join_layers, split_layers
from bap_jax.pruning.mask_calculator import masks_for
from bap_jax.pruning.masks import check_not_nan, map_pruned
from bap_jax.pruning.selection import keep_largest_jointly
from bap_jax.pruning.sparsity_distributions import FilterFn, SparsityMap
from bap_jax.pruning.sparsity_types import Unstructured
from bap_jax.trees import paths_of_leaves
from bap_jax.types import Array, Params, PyTree

_Mixed = BaseUpdater if TYPE_CHECKING else object  # at run time its fields come from the pruner


@dataclasses.dataclass(eq=False)
class GlobalPruningMixin(_Mixed):
    """Makes a pruner rank all leaves together.

    Attributes:
      custom_sparsity_map: sparsities of single leaves, by path; these leaves are not ranked.
      filter_fn: which leaves are ranked.
      normalization_eps: added to the norm of a leaf's scores.
      use_normalization: whether scores are divided by it.
      sparsity: fraction to remove of all ranked leaves together, in [0, 1).

    Raises:
      UserError: the sparsity type is not unstructured, or a sparsity is outside [0, 1).
    """

    is_layerwise: ClassVar[bool] = False
    never_regrows: ClassVar[bool] = True
    supports_arrays: ClassVar[bool] = True
    unknown_paths: ClassVar[str] = "error"  # of the map, see `sparsity_distributions.uniform`

    custom_sparsity_map: SparsityMap | None = None
    filter_fn: FilterFn = sparsity_distributions.NOT_DIM_ONE_FILTER_FN
    normalization_eps: float = 1e-8
    use_normalization: bool = True
    sparsity: Array | float = 0.0

    def __post_init__(self):
        super().__post_init__()
        sparsity_distributions.check_sparsity(self.sparsity)
        self.sparsity_distribution_fn = self._distribution
        if not isinstance(self.sparsity_type, Unstructured):
            raise UserError(
                f"one ranking over all leaves compares single weights; sparsity_type must be "
                f"Unstructured(), got {self.sparsity_type}."
            )

    def init_state(self, params: Params):
        """The state before the first step; its target is one float for all leaves."""
        state = super().init_state(params)
        return state._replace(target_sparsities=self.sparsity)

    def create_masks(self, scores: PyTree, target_sparsity: Array | float, kept=None) -> PyTree:
        """Masks by one ranking.

        Args:
          scores: a tree with the scores of all leaves.
          target_sparsity: fraction to remove of the ranked leaves together.
          kept: `(1,)` int32 weights of the ranked leaves to keep, in place of `target_sparsity`.

        Raises:
          UserError: a score is NaN.
        """
        own = self._distribution(scores)
        check_not_nan(scores, own)
        custom = self._custom(scores)

        def create(targets, leaves, is_custom, paths):
            axes = list(map(self.axes_of, paths))
            ranked = [i for i, flag in enumerate(is_custom) if not flag]
            total = sum(leaves[i].size for i in ranked)
            scores = [self._normalized(leaves[i], axes[i]) for i in ranked]
            rest = [i for i in range(len(leaves)) if is_custom[i]]
            if self.has_standard_topk():
                count = kept_count(self.counting, target_sparsity, total)
                joint = keep_largest_jointly(scores, count if kept is None else kept[0])
                others = masks_for(
                    [leaves[i] for i in rest],
                    [targets[i] for i in rest],
                    self.sparsity_type,
                    self.counting,
                    axes=[axes[i] for i in rest],
                )
            else:
                joint = self._own_joint_masks(scores, target_sparsity)
                others = [self._own_mask(leaves[i], targets[i]) for i in rest]
            masks = dict(zip([*ranked, *rest], [*joint, *others], strict=True))
            return [masks[i] for i in range(len(leaves))]

        return map_pruned(create, own, scores, custom, paths_of_leaves(scores))

    def find_targets(self, params: Params) -> Array | float:
        """The target of all ranked leaves together."""
        del params
        return self.sparsity

    def take_targets(self, targets: Array | float) -> None:
        """Replaces the target of all ranked leaves together."""
        self.sparsity = targets
        self.sparsity_distribution_fn = self._distribution

    def _needed_targets(self, params):
        del params
        return self.sparsity

    def _own_joint_masks(self, scores, sparsity):
        """Masks by the user's `topk_fn`, of all leaves as one vector."""
        if not scores:
            return []
        mask = self._own_mask(jnp.concatenate([jnp.ravel(score) for score in scores]), sparsity)
        ends = np.cumsum([score.size for score in scores])[:-1]
        pairs = zip(jnp.split(mask, ends), scores, strict=True)
        return [part.reshape(score.shape) for part, score in pairs]

    def _normalized(self, score, axes):
        if not self.use_normalization:
            return score
        layers = [self._normalized_layer(layer) for layer in split_layers(score, axes)]
        return join_layers(layers, score.shape, axes)

    def _normalized_layer(self, score):
        # Removed weights have the score −∞, which must not enter the norm.
        finite = jnp.where(jnp.isneginf(score), 0, score)
        return score / (jnp.linalg.norm(finite) + self.normalization_eps)

    def _distribution(self, params):
        return sparsity_distributions.uniform(
            params,
            self.sparsity,
            self.filter_fn,
            self.custom_sparsity_map,
            unknown_paths=self.unknown_paths,
        )

    def _custom(self, params):
        """Whether `custom_sparsity_map` sets a leaf's sparsity."""
        nowhere = sparsity_distributions.uniform(
            params,
            0.0,
            lambda key, param: False,
            self.custom_sparsity_map,
            unknown_paths=self.unknown_paths,
        )
        leaves, structure = jax.tree.flatten(nowhere, is_leaf=lambda leaf: leaf is None)
        return jax.tree.unflatten(structure, [leaf is not None for leaf in leaves])

    def _counted(self, params):
        def ranked(_, leaves, is_custom):
            pairs = zip(leaves, is_custom, strict=True)
            return [0 if custom else math.prod(leaf.shape) for leaf, custom in pairs]

        sizes = map_pruned(ranked, self._distribution(params), params, self._custom(params))
        return [self.sparsity], [sum(jax.tree.leaves(sizes))]


@dataclasses.dataclass(eq=False)
class GlobalMagnitudePruning(GlobalPruningMixin, layerwise_pruners.MagnitudePruning):
    """|θ|, all leaves in one ranking."""


@dataclasses.dataclass(eq=False)
class GlobalSaliencyPruning(GlobalPruningMixin, layerwise_pruners.SaliencyPruning):
    """|θ ∇ℓ|, all leaves in one ranking."""
