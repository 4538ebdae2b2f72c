"""Every setting of a run and its default, in one place.

Defaults are the paper's (section 5 and appendix): SGD .01 with momentum .9, divided by ten at 60,
80 and 90 % of the epochs, batch 128, 15 epochs of pruning and 45 of fine-tuning, buffer 40.
"""

import dataclasses
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # which itself reads these settings
    from bap_jax.training.method_contract import MethodLike
    from bap_jax.training.optimizer_registry import OptimizerLike
    from bap_jax.training.schedules import ScheduleLike


SELECTIONS = ("last", "average", "flips", "paired", "best")
DEFAULT_SELECTION = "last"


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """How the weights move: by default SGD with a step schedule, the paper's.

    Attributes:
      learning_rate: initial step size, that of SGD: for other optimisers write a smaller one, such
        as 0.001.
      momentum: heavy-ball momentum of `sgd`.
      milestones: fractions of all epochs at which the schedule `step` multiplies the step size by
        `decay`.
      decay: the factor at each milestone.
      weight_decay: of `sgd` and `adam` an L2 term added to the gradient; of `adamw`, `lion` and
        `lamb` decoupled from it.
      nesterov: whether the momentum of `sgd` is Nesterov's.
      name: `sgd`, `adam`, `adamw`, `lion`, `lamb`, another registered name, `module:function`, or
        in Python a builder or an optax transformation, see `training.optimizer_registry`.
      schedule: `step`, `constant`, `cosine`, `linear`, another registered name, `module:function`,
        or in Python a builder, see `training.schedules`.
      warmup: fraction of all steps over which the step size grows linearly.
      clip_norm: longer gradients are scaled down to this global norm.
      beta1, beta2: decay rates of the moments of `adam`, `adamw`, `lion` and `lamb`; a `beta2` of 0
        is the usual one, .99 for `lion` and else .999.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9
    milestones: tuple[float, ...] = (0.6, 0.8, 0.9)
    decay: float = 0.1
    weight_decay: float = 0.0
    nesterov: bool = False
    name: "OptimizerLike" = "sgd"
    schedule: "ScheduleLike" = "step"
    warmup: float = 0.0
    clip_norm: float = math.inf
    beta1: float = 0.9
    beta2: float = 0.0


@dataclasses.dataclass(frozen=True)
class PruningSettings:
    """Which weights are removed, and when; `training.pruner_settings` explains the names.

    Attributes:
      algorithm: `magnitude` (the paper), or another name of `pruning.algorithm_names()`.
      distribution: `uniform` (the paper: the same sparsity in every layer) or `erk`.
      type: `unstructured`, `nm_2,4`, `block_4,4` or `channel`.
      schedule: `gradual` (the paper), `polynomial`, `one_shot` (at the start), `periodic`, `none`,
        or `auto`: what suits the algorithm.
      counting: `ceil` (the paper) or `round` (jaxpruner), how many weights a sparsity removes.
      sparsity: fraction of the prunable weights that end as zeros, in [0, 1).
      epochs: length of the pruning phase; the last pruning opens the epoch after it.
      frequency: number of epochs from one pruning to the next.
      prunable: which weights: `all_but_first_and_last` (the paper: the first convolution and the
        last linear layer stay dense), `kernels` (all of them), or paths joined by commas, patterns
        such as `blocks/*/kernel` among them.
    """

    sparsity: float = 0.95
    epochs: int = 15
    frequency: int = 1
    prunable: str = "all_but_first_and_last"
    algorithm: str = "magnitude"
    distribution: str = "uniform"
    type: str = "unstructured"
    schedule: str = "auto"
    counting: str = "ceil"


@dataclasses.dataclass(frozen=True)
class DualSettings:
    """How the multipliers move.

    Attributes:
      rule: `auto` (needs no tuning, see `lagrangian.auto`), `ascent` (the paper's),
        `nu_pi` or `augmented` (the augmented Lagrangian). `auto` reads `bound` and `weight_limit`
        alone of the settings below.
      learning_rate: η_λ, step size of `ascent` and `nu_pi`, and of group DRO's adversary. The
        multiplier of a group that misses its tolerance by one point grows by .01 η_λ a step: the
        fewer the steps, the larger η_λ must be.
      momentum, dampening: of `ascent`'s direction, as in `lagrangian.dampened_momentum`.
      nu, proportional, integral: ν, κ_p and κ_i of `nu_pi`.
      penalty: κ; where `augmented` starts, and the constant of the method `penalty`.
      penalty_growth, largest_penalty: of `augmented`.
      start: initial λ.
      bound: largest |λ|.
      optimizer: of the rule `ascent`: `sgd`, or any other of `OptimizerSettings.name`; it moves by
        `learning_rate`, unless it is an optax transformation, which brings its own.
      restart: set a multiplier to 0 when its constraint holds, by `restart_confidence` standard
        deviations of the estimate.
      weight_limit: largest 1 + Σ|λ| in the weights' gradient, see
        `lagrangian.steps.primal_dual_steps`; `auto` lengthens the steps by at most this.
    """

    rule: str = "auto"
    learning_rate: float = 0.1
    momentum: float = 0.0
    dampening: float = 0.0
    nu: float = 0.0
    proportional: float = 1.0
    integral: float = 1.0
    penalty: float = 1.0
    penalty_growth: float = 1.01
    largest_penalty: float = 10.0
    start: float = 0.0
    bound: float = math.inf
    restart: bool = False
    restart_confidence: float = 0.0
    weight_limit: float = 20.0
    optimizer: "OptimizerLike" = "sgd"


@dataclasses.dataclass(frozen=True)
class ConstraintSettings:
    """What the constraints are, and how their values are estimated.

    Attributes:
      first_epoch: first epoch in which the method acts; −1 is the epoch of the last pruning.
      min_group_size: groups with fewer training samples are not constrained; the report names them.
      buffer_size: k, samples of each group from which its accuracy is estimated; 0: the batch.
      estimator: `auto` (`adaptive` for `dual.rule="auto"`, else `plain`), `plain`, `paired`,
        `control_variate` or `adaptive`, see `constraints.estimators`.
      proxy: what the weights see of an accuracy, `loss` or `kl`, see `constraints.gaps`.
      overall_accuracy: `population` or `group_mean` (the reference), see `constraints.gaps`.
      overall_term: `full` (the paper), `detached` or `clipped`, see `lagrangian.overall_term`.
      el_absolute: EL constrains |ℓ_g − ℓ| (the released code) instead of ℓ_g − ℓ (the paper); not
        with `dual.rule="auto"`, which has to know the sign.
      el_buffer_size: `buffer_size` of EL, whose old losses fade with `dual.rule=auto`; with 0, this
        rule takes `buffer_size`, and the others look at the batch.
      el_bound: largest |λ| of EL, whose constraints also drive losses up.
      kl_limit: δ of `distillation`, nats.
    """

    first_epoch: int = -1
    min_group_size: int = 10
    buffer_size: int = 40
    estimator: str = "auto"
    proxy: str = "loss"
    overall_accuracy: str = "population"
    overall_term: str = "detached"
    el_absolute: bool = False
    el_buffer_size: int = 0
    el_bound: float = 1.0
    kl_limit: float = 0.05


@dataclasses.dataclass(frozen=True)
class BaselineSettings:
    """Settings of methods without constraints.

    Attributes:
      dro_adjustment: C of `group_dro`, see `constraints.group_risk`.
      class_balanced_beta: β of `class_balanced`, see `constraints.reweighted_loss`.
      performance_floor, performance_gamma: θ and γ of `performance_weighted`, see
        `constraints.performance_weighted_loss`.
    """

    dro_adjustment: float = 0.0
    class_balanced_beta: float = 0.999
    performance_floor: float = 0.1
    performance_gamma: float = 2.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """One run of pruning and fine-tuning under a method.

    Attributes:
      method: a registered name (see `training.METHODS`), `module:function`, or in Python a
        `MethodBuilder`, a `Method` or a `Constraint`, see `training.methods`.
      scheme: one of `lagrangian.SCHEMES`, in which order weights and multipliers move.
      seed: of the order of samples, and of dropout.
      tolerance: ε, how much more than the overall accuracy a group's may drop; a fraction.
      finetune_epochs: epochs after the pruning phase.
      batch_size: samples of one step.
      selection: which iterate is the product: `last`; `average` of the weights of the last third of
        the fine-tuning; `flips` (fewest flips near the best accuracy), `paired` (an earlier one if
        a test says so) or `best` (accuracy within the tolerance), see `reporting.selection`.
      precision: in which the network computes, `float32` or `bfloat16`; parameters, statistics,
        losses and multipliers are float32 in any case.
      optimizer, pruning, dual, constraint, baseline: sections, each of its own class.
    """

    method: "MethodLike" = "ceag"
    scheme: str = "dual_primal"
    seed: int = 0
    tolerance: float = 0.01
    finetune_epochs: int = 45
    batch_size: int = 128
    selection: str = DEFAULT_SELECTION
    precision: str = "float32"
    optimizer: OptimizerSettings = OptimizerSettings()
    pruning: PruningSettings = PruningSettings()
    dual: DualSettings = DualSettings()
    constraint: ConstraintSettings = ConstraintSettings()
    baseline: BaselineSettings = BaselineSettings()

    @property
    def epochs(self) -> int:
        """All epochs, pruning and fine-tuning."""
        return self.pruning.epochs + self.finetune_epochs
