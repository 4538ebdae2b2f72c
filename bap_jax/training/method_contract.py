"""What a method is, and the contract of the functions that build one.

A method says what is minimised while a pruned network is tuned, which constraints must hold, and
how their multipliers move. `training.methods` knows methods by name.
"""

from typing import TYPE_CHECKING, NamedTuple, Protocol

from bap_jax.constraints import Constraint, DenseReference
from bap_jax.constraints.objectives import Objective, mean_loss
from bap_jax.lagrangian import Formulation
from bap_jax.types import Array

if TYPE_CHECKING:  # `Settings.method` is of a type that this module defines
    from bap_jax.training.settings import Settings


class GroupWeights(Protocol):
    """What weight the loss of each group has in the gradient of the network's weights."""

    def __call__(self, frequency: Array, multipliers: Array) -> Array:
        """A negative entry means that the loss of this group is driven up.

        Args:
          frequency: `(group,)` shares of the groups in the training split.
          multipliers: `(constraint,)` λ.

        Returns:
          `(group,)`; numpy arrays stay on the host.
        """
        ...


class Method(NamedTuple):
    """What is minimised, under which constraints, and how their multipliers move.

    Attributes:
      constraint: what must hold.
      formulation: how its multipliers move, and how it enters the objective.
      objective: what is minimised.
      group_weights: the weight of each group's loss in the gradient, for `metrics.jsonl`; None
        where the gradient is not linear in the losses of the groups.
      needs_dense_logits: whether objective or constraint read the dense model's logits; they are
        then computed once, before the first step.
      is_constrained: whether violations are meant to end at or below 0; the report then says
        whether they did.
      has_multipliers: whether λ are multipliers also where `is_constrained` does not say so, as of
        equalities; the report then says how they behaved.
      watches_all: whether the constraints of groups smaller than `constraint.min_group_size` act,
        too.
      name: for reports; a registered method has the name under which it is registered.
    """

    constraint: Constraint
    formulation: Formulation
    objective: Objective = mean_loss
    group_weights: GroupWeights | None = None
    needs_dense_logits: bool = False
    is_constrained: bool = False
    watches_all: bool = False
    name: str = ""
    has_multipliers: bool = False


class MethodBuilder(Protocol):
    """A function that builds a method once the dense model has been evaluated."""

    def __call__(self, reference: DenseReference, settings: "Settings", /) -> Method | Constraint:
        """Builds the method of one run.

        It is called while a program is traced, and once more on the host for the names of the
        constraints. So it must be pure, and must treat as arrays all fields of `reference` and the
        numbers of `settings` that `training.SWEPT` names, such as `settings.tolerance`: no `if`
        over them, no `float()`. In return one compiled program runs many values of them.

        Args:
          reference: the dense model on the training split: `(group,)` accuracies, losses, shares
            and sample counts of the groups, and the overall accuracy and loss.
          settings: of the run.

        Returns:
          The method; or a constraint alone, which is then met on the mean loss with the multipliers
          of `settings.dual`. Constraints that have one entry for each group, or several, list all
          groups before the next kind (`reference.frequency.shape[0]` is the number of groups):
          those of groups with fewer than `settings.constraint.min_group_size` training samples
          are left out. If their number is not a multiple of the number of groups, all of them act.
        """
        ...


class MethodSpec(NamedTuple):
    """A registered method: its builder, and what must be known before there is a dense model.

    Attributes:
      build: builds the method.
      supports_switching: whether a scheme without multipliers, such as `switching`, may step on its
        constraints one at a time.
      supports_augmented: whether `dual.rule='augmented'` may weigh its constraints beyond their
        multipliers.
      description: one line for lists of methods.
      follows_rule: whether its multipliers move by `dual.rule`, and it reads nothing else of
        `dual`: what the rule does not read then has no effect. Of users' methods that is not known.
      own_settings: dotted keys of the config that no other built-in method reads.
    """

    build: MethodBuilder
    supports_switching: bool = False
    supports_augmented: bool = True
    description: str = ""
    follows_rule: bool = False
    own_settings: tuple[str, ...] = ()


# What `Settings.method` may be: a registered name, `module:function`, or one of the objects.
MethodLike = str | MethodBuilder | Method | Constraint
