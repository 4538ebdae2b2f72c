"""Which weights go: scores, masks and schedules. Knows nothing of groups or constraints."""

from bap_jax.pruning.filters import Kernel as Kernel
from bap_jax.pruning.filters import leaf_paths as leaf_paths
from bap_jax.pruning.filters import prunable_leaves as prunable_leaves
from bap_jax.pruning.filters import select_paths as select_paths
from bap_jax.pruning.gradual import Pruner as Pruner
from bap_jax.pruning.gradual import gradual_magnitude as gradual_magnitude
from bap_jax.pruning.gradual import no_pruning as no_pruning
from bap_jax.pruning.masks import apply_masks as apply_masks
from bap_jax.pruning.masks import dense_masks as dense_masks
from bap_jax.pruning.masks import magnitude_mask as magnitude_mask
from bap_jax.pruning.schedules import GradualSchedule as GradualSchedule
from bap_jax.pruning.summary import Sparsity as Sparsity
from bap_jax.pruning.summary import sparsity as sparsity
