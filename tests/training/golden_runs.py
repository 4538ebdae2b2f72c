"""Runs of the reference, configured from their settings alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bap_jax import groups, lagrangian, metrics, training
from bap_jax.constraints import DenseReference, equalized_loss, excess_accuracy_gap, unconstrained
from bap_jax.training.settings import DualSettings
from bap_jax.types import Dataset, Variables
from tests import golden_files
from tests.lagrangian.problems import linear_model, reference_scheme, toy_2d


def torch_sgd(settings, learning_rate):
    """`torch.optim.SGD` with the options that `settings` hold, by its own names for them."""
    momentum, dampening = settings.take("momentum", 0.0), settings.take("dampening", 0.0)
    nesterov = settings.take("nesterov", False)
    if not dampening:
        return optax.sgd(learning_rate, momentum or None, nesterov)
    assert not nesterov, "PyTorch has no Nesterov momentum with dampening"
    trace = lagrangian.dampened_momentum(momentum, dampening)
    return optax.chain(trace, optax.scale_by_learning_rate(learning_rate))


def reference_adam(scheme, learning_rate, b1=0.9, b2=0.999, eps=1e-8):
    """Adam as the reference has it in this scheme.

    Its extrapolating Adam adds ε to √v itself, not to √(v / (1 − b2ᵗ)): where a gradient starts at
    0, that is 1e-6 of the weights.
    """
    if scheme != "extrapolation":
        return optax.adam(learning_rate, b1, b2, eps)
    moments = optax.scale_by_adam(b1, b2, eps)

    def update(updates, state, params=None):
        _, state = moments.update(updates, state, params)
        rate = learning_rate * jnp.sqrt(1 - b2**state.count) / (1 - b1**state.count)
        step = jax.tree.map(lambda m, v: -rate * m / (jnp.sqrt(v) + eps), state.mu, state.nu)
        return step, state

    return optax.GradientTransformation(moments.init, update)


class ToyRun:
    """The reference's run `name` of the toy problem.

    Attributes:
      problem: for `scheme`.
      scheme: the reference's.
      start: `(2,)` first point.
      steps: of the run.
    """

    def __init__(self, name):
        with golden_files.settings(f"c/{name}") as settings:
            self.problem = toy_2d(settings.take("surrogate", False))
            self.start, self.steps = settings.take("init"), settings.take("steps")
            optimizer = settings.take("optimizer")
            rates = settings.take("primal_lr"), settings.take("dual_lr")
            if settings.take("adam", False):
                assert not settings.take("momentum", 0.0), "Adam has no `momentum`"
                optimizers = [reference_adam(optimizer, rate) for rate in rates]
            else:  # momentum is of the weights alone
                optimizers = torch_sgd(settings, rates[0]), optax.sgd(rates[1])
        self.scheme = reference_scheme(optimizer, *optimizers)


class LinearRun:
    """One of the reference's training runs of a linear model, as our trainer sees it.

    Attributes:
      golden: arrays of the run by name.
      trainer: the reference's step.
      buffer_size: k; 0 without a buffer.
    """

    def __init__(self, name):
        self.golden = golden_files.case(f"c/{name}")
        with golden_files.settings(f"c/{name}") as settings:
            sizes = settings.take("nums")
            join = groups.intersections if settings.take("intersectional") else groups.margins
            self._data, self._group = linear_data(sizes), lambda attr: grouping(attr, sizes, join)
            self._num_groups = len(self._group(self._data["attr"][0]).names)
            steps, epoch = settings.take("n_steps"), settings.take("default_epoch", None)
            self._epochs = settings.take("epochs", None) or [epoch] * steps
            assert len(self._epochs) == steps, f"{settings.name}: {steps} steps, but other epochs"
            self.buffer_size = settings.take("buffer_memory", None) or 0
            assert not settings.take("weight_decay", 0), "the reference's is faulty"
            self.trainer = self._make_trainer(settings)

    def _make_trainer(self, settings):
        detach = settings.take("detach_model_constraint_contribution", False)
        last, early = settings.take("last_pruning_epoch"), "apply_mitigation_while_pruning"
        with settings.part("primal") as primal, settings.part("dual") as dual:
            optimizer = torch_sgd(primal, primal.take("lr"))
            dual_settings = DualSettings(
                "ascent",
                learning_rate=settings.take("dual_lr"),
                momentum=dual.take("momentum", 0.0),
                dampening=dual.take("dampening", 0.0),
            )
        formulation = training.dual_formulation(dual_settings, "detached" if detach else "full")
        return training.make_trainer(
            linear_model(),
            reference_scheme(settings.take("optimizer"), optimizer, formulation),
            self._constraint(settings, detach),
            training.no_pruning(),
            constrained_from=0 if settings.take(early, False) else last,
            label_smoothing=settings.take("label_smoothing", 0.0),
        )

    def _constraint(self, settings, detach):
        """CEAG or EL with the reference's own overall accuracy."""
        kind = settings.take("cls")
        if kind == "UniformAccuracyGapProblem":
            return excess_accuracy_gap(
                self._reference(),
                settings.take("tolerance"),
                buffer_size=self.buffer_size,
                overall_accuracy="group_mean",
            )
        assert kind == "EqualizedLossProblem", f"{settings.name}: unknown setting `cls` = {kind!r}"
        return equalized_loss(
            self._reference(),
            absolute=settings.take("abs_equality_constraint"),
            buffer_size=self.buffer_size,
            overall_loss="group_mean",
            detach_overall=detach,
        )

    def _reference(self):
        """The dense baseline; EL's runs have none and need none."""
        zeros = np.zeros(self._num_groups, np.float32)

        def get(name, default):
            return jnp.asarray(self.golden.get(f"baseline_train_{name}", default))

        return DenseReference(
            get("group_acc", zeros),
            get("avg_acc", 0.0),
            get("group_loss", zeros),
            get("avg_loss", 0.0),
            jnp.ones(self._num_groups) / self._num_groups,
        )

    def variables(self):
        """Initial weights."""
        return first_variables(self._data)

    def batches(self):
        """The run's batches with their epochs."""
        for step, epoch in enumerate(self._epochs):
            yield batch_of(self._data, step, self._group(self._data["attr"][step]).ids), epoch


class NaiveRun:
    """A run of the linear model without constraints, which stands in the files without settings.

    Data, learning rate and momentum are those that explain its first two steps; that they also
    explain all the others is what its test says.

    Attributes:
      golden: arrays of the run by name.
      trainer: naive fine-tuning.
    """

    def __init__(self, name):
        self.golden = golden_files.case(f"c/{name}")
        with golden_files.settings(f"c/{name}"):
            pass  # whatever stood there would have to be applied
        folders = [golden_files.case(f"c/{one}") for one in golden_files.cases("c/", "init_W")]
        first, second = self.golden["W"][:2]
        _, rate, momentum, self._data = min(
            (explain(first, second, data) for data in folders), key=lambda found: found[0]
        )
        scheme = reference_scheme("dual_primal", optax.sgd(rate, momentum or None), optax.sgd(rate))
        self.trainer = training.make_trainer(
            linear_model(), scheme, unconstrained(), training.no_pruning(), constrained_from=0
        )

    def variables(self):
        """Initial weights."""
        return first_variables(self._data)

    def batches(self):
        """The run's batches, one per step."""
        for step in range(len(self.golden["W"])):
            yield batch_of(self._data, step, np.zeros((len(self._data["y"][step]), 1), np.int32))


def explain(first, second, data):
    """Error of the first step, learning rate, momentum, data: W after two steps on `data`."""

    def gradient(params, step):
        def loss(params):
            logits, _ = linear_model().apply(Variables(params, ()), data["x"][step])
            return metrics.cross_entropy(logits, data["y"][step].astype(np.int32)).mean()

        return jax.grad(loss)(params)

    params = first_variables(data).params
    one = gradient(params, 0)
    size = jnp.sum(one["W"] ** 2)
    moved = params["W"] - first
    rate = float(f"{jnp.sum(moved * one['W']) / size:.3g}")
    error = float(jnp.abs(moved - rate * one["W"]).max())
    after = jax.tree.map(lambda leaf, slope: leaf - rate * slope, params, one)
    rest = first - second - rate * gradient(after, 1)["W"]
    return error, rate, round(float(jnp.sum(rest * one["W"]) / size / rate), 3), data


def first_variables(data):
    """Initial weights in a folder of inputs."""
    return Variables({"W": data["init_W"], "b": data["init_b"]}, ())


def batch_of(data, step, ids):
    """The samples of a step, in the groups `ids` `(sample, attribute)`."""
    return Dataset(data["x"][step], data["y"][step].astype(np.int32), ids)


def grouping(attr, sizes, join):
    """Groups from attributes `(sample, attribute)` of these sizes, put together by `join`."""
    return join(
        [
            groups.Grouping(attr[:, i : i + 1].astype(np.int32), tuple(map(str, range(size))))
            for i, size in enumerate(sizes)
        ]
    )


def linear_data(sizes):
    """The one folder of inputs whose attributes have these sizes."""
    found = [golden_files.case(f"c/{name}") for name in golden_files.cases("c/", "init_W")]
    found = [data for data in found if data["attr"].shape[-1] == len(sizes)]
    found = [data for data in found if np.all(data["attr"].max((0, 1)) < sizes)]
    exact = [data for data in found if np.all(data["attr"].max((0, 1)) + 1 == sizes)]
    (data,) = exact if len(found) > 1 else found
    return data
