"""Problems with known answers, and the reference's linear model as a training run."""

import jax.numpy as jnp
import numpy as np
import optax

from bap_jax import groups, lagrangian, training
from bap_jax.constraints import (
    DenseReference,
    constraint_values,
    equalized_loss,
    excess_accuracy_gap,
)
from bap_jax.models import Model
from bap_jax.training.settings import DualSettings
from bap_jax.types import Dataset, Variables
from tests import golden_files


def toy_2d(surrogate=False):
    """min x² + 2y² s.t. x + y ≥ 1, x² + y ≤ 1, solved by (2/3, 1/3) with λ = (4/3, 0)."""

    def problem(params, after=None):
        x, y = params
        true = jnp.stack([1 - x - y, x**2 + y - 1])
        proxy = jnp.stack([1.1 - 0.9 * x - y, x**2 + y - 1]) if surrogate else true
        del after
        return lagrangian.Evaluation(x**2 + 2 * y**2, constraint_values(true, proxy))

    return problem


def linear_model():
    """Logits x Wᵀ + b."""

    def apply(variables, inputs, *, train=False, key=None):
        del train, key
        params = variables.params
        return inputs @ params["W"].T + params["b"][None], variables.state

    return Model(lambda key, inputs: None, apply)


def reference_scheme(name, primal_optimizer, formulation):
    """The scheme that the reference calls `name`, with what it does differently.

    Its multipliers that the weights saw are found in `state.memory`.
    """
    name, options = {
        "extrapolation": ("extragradient", {"keep_ahead": True}),
        "primal_dual": ("primal_dual", {"chained": True}),
    }.get(name, (name, {}))
    scheme = lagrangian.build_scheme(name, primal_optimizer, formulation, **options)

    def init(params, num_constraints):
        state = scheme.init(params, num_constraints)
        return state._replace(memory=state.multipliers)

    def update(problem, params, state, *inputs):
        params, state, info = scheme.update(problem, params, state, *inputs)
        return params, state._replace(memory=info.multipliers), info

    return lagrangian.Scheme(init, update)


class LinearRun:
    """One of the reference's training runs of a linear model, as our trainer sees it."""

    def __init__(self, name):
        self.settings = golden_files.SETTINGS[f"c/{name}"]
        self.golden = golden_files.case(f"c/{name}")
        sizes = self.settings["nums"]
        self.data = golden_files.case("c/data_one" if len(sizes) == 1 else "c/data_two")
        join = groups.intersections if self.settings["intersectional"] else groups.margins
        self._group = lambda attr: join(
            [
                groups.Grouping(attr[:, i : i + 1].astype(np.int32), tuple(map(str, range(size))))
                for i, size in enumerate(sizes)
            ]
        )
        self.num_groups = len(self._group(self.data["attr"][0]).names)

    def reference(self):
        """The dense baseline; EL's runs have none and need none."""
        zeros = np.zeros(self.num_groups, np.float32)

        def get(name, default):
            return jnp.asarray(self.golden.get(f"baseline_train_{name}", default))

        return DenseReference(
            get("group_acc", zeros),
            get("avg_acc", 0.0),
            get("group_loss", zeros),
            get("avg_loss", 0.0),
            jnp.ones(self.num_groups) / self.num_groups,
        )

    def constraint(self):
        """CEAG or EL with the reference's own overall accuracy."""
        memory = self.settings.get("buffer_memory") or 0
        if self.settings["cls"] == "UniformAccuracyGapProblem":
            return excess_accuracy_gap(
                self.reference(),
                self.settings["tolerance"],
                buffer_size=memory,
                overall_accuracy="group_mean",
            )
        return equalized_loss(
            self.reference(),
            absolute=self.settings["abs_equality_constraint"],
            buffer_size=memory,
            overall_loss="group_mean",
        )

    def trainer(self):
        """The reference's step."""
        constraint, dual = self.constraint(), self.settings["dual"]
        detach = self.settings.get("detach_model_constraint_contribution")
        primal = self.settings["primal"]
        settings = DualSettings(
            learning_rate=self.settings["dual_lr"],
            momentum=dual.get("momentum", 0.0),
            dampening=dual.get("dampening", 0.0),
        )
        scheme = reference_scheme(
            self.settings["optimizer"],
            optax.sgd(primal["lr"], primal.get("momentum") or None),
            training.dual_formulation(settings, "detached" if detach else "full"),
        )
        early = self.settings.get("apply_mitigation_while_pruning")
        return training.make_trainer(
            linear_model(),
            scheme,
            constraint,
            training.no_pruning(),
            constrained_from=0 if early else self.settings["last_pruning_epoch"],
            label_smoothing=self.settings.get("label_smoothing", 0.0),
        )

    def variables(self):
        """Initial weights."""
        return Variables({"W": self.data["init_W"], "b": self.data["init_b"]}, ())

    def batches(self):
        """The run's batches with their epochs."""
        steps = self.settings["n_steps"]
        epochs = self.settings["epochs"] or [self.settings["default_epoch"]] * steps
        for step, epoch in enumerate(epochs):
            ids = self._group(self.data["attr"][step]).ids
            labels = self.data["y"][step].astype(np.int32)
            yield Dataset(self.data["x"][step], labels, ids), epoch
