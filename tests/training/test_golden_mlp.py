"""The reference's eight steps of a masked multilayer perceptron, through our trainer.

What the files do not say was found from their numbers: groups are the classes; the dense model is
the initial network without masks; the test split is the first three batches; and the optimisers,
whose rates make the difference between agreement to 1e-7 and to 1e-3.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import models, pruning, reporting, training
from bap_jax.constraints import excess_accuracy_gap
from bap_jax.training.settings import DualSettings
from bap_jax.types import Dataset, Variables
from tests import golden_files
from tests.lagrangian.problems import reference_scheme

TOLERANCE = 2e-6
PRIMAL = {"learning_rate": 0.05, "momentum": 0.9}
DUAL = DualSettings("ascent", learning_rate=0.1)
BUFFER_SIZE = 5
TEST_BATCHES = slice(3)
EXCESS = "acc_gap_violations_without_tol"
METHODS = {"ceag": excess_accuracy_gap}

DATA = golden_files.case("f/mlp")
LAYERS = sorted(key.split("/")[1] for key in DATA if re.fullmatch(r"init/main\.\d+\.weight", key))


def runs():
    """Golden runs. Weight decay is left out: there the reference regularises the last layer alone
    and lets the regulariser leak into the constraint."""
    names = golden_files.cases("f/mlp/", "lambda_final")
    decays = {name: re.search(r"_wd([\d.]+)", name) for name in names}
    return [name for name, decay in decays.items() if decay is None or float(decay[1]) == 0]


def params_below(prefix):
    """The arrays `prefix/main.0.weight` and so on as our parameters."""
    return {
        f"dense_{i}": {
            "kernel": DATA[f"{prefix}/{layer}"].T,
            "bias": DATA[f"{prefix}/{layer.removesuffix('weight')}bias"],
        }
        for i, layer in enumerate(LAYERS)
    }


def masks():
    """A mask for the kernel of each layer that has one."""
    found = [DATA.get(f"mask/{layer.removesuffix('.weight')}") for layer in LAYERS]
    return {
        f"dense_{i}": {"kernel": None if mask is None else jnp.asarray(mask.T), "bias": None}
        for i, mask in enumerate(found)
    }


def split(batches):
    """The samples of these batches, `(sample, ...)`."""
    inputs, labels = DATA["x"][batches], DATA["y"][batches].astype(np.int32).ravel()
    return Dataset(inputs.reshape(labels.size, -1), labels, labels[:, None])


@functools.cache
def evaluator():
    return training.make_evaluator(network(), int(DATA["y"].max()) + 1)


def evaluate(params, batches=slice(None)):
    """Means of the network with these parameters over these batches."""
    return evaluator()(Variables(params, {}), split(batches))


def network():
    return models.from_linen(models.MLP([DATA[f"init/{layer}"].shape[0] for layer in LAYERS]))


def logged(name, log):
    """What the reference logged in this run, each number by the last piece of its name."""
    entry = f"f/mlp/{name}/{log}"
    values = golden_files.SETTINGS.get(entry, {})
    return golden_files.Settings(entry, {key.split("/")[-1]: v for key, v in values.items()})


def by_group(log, key):
    """The number of each group, by its name with the group's number behind."""
    last = int(DATA["y"].max())
    return [log.take(f"{key}_{group:0{len(str(last))}d}") for group in range(last + 1)]


def method_of(name):
    """The constraint that a run's name starts with."""
    method = name.split("_")[0]
    assert method in METHODS, f"f/mlp/{name}: unknown method `{method}`"
    return METHODS[method]


@functools.cache
def trained(name):
    """State after the run; of each step the parameters before it, and its metrics."""
    log = logged(name, "evaluate_one_epoch_test")
    gaps = by_group(log, "group_acc_gap")
    tolerance = gaps[0] - log.take("accuracy_gap") - by_group(log, "violation")[0]
    trainer = training.make_trainer(
        network(),
        reference_scheme(
            "dual_primal", optax.sgd(**PRIMAL), training.dual_formulation(DUAL, "full")
        ),
        method_of(name)(
            training.dense_reference(evaluate(params_below("init"))),
            tolerance,
            buffer_size=BUFFER_SIZE,
            overall_accuracy="group_mean",
        ),
        training.Pruner(pruning.FixedMasks(masks=masks())),
        constrained_from=0,
    )
    data, epoch = split(slice(None)), int(log.take("_epoch"))

    def step(state, indices):
        after, metrics = trainer.step(state, data, indices, epoch)
        return after, (state.params, metrics)

    state = trainer.init(Variables(params_below("init"), {}), jax.random.key(0))
    steps = jnp.arange(DATA["y"].size).reshape(DATA["y"].shape)
    return jax.jit(lambda state: jax.lax.scan(step, state, steps))(state)


def close(found, expected, name):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("name", runs())
def test_eight_steps(name):
    golden = golden_files.case(f"f/mlp/{name}")
    state, (_, steps) = trained(name)
    close(state.lagrangian.multipliers, golden["lambda_final"], "lambda_final")
    close(steps.lagrangian, golden["lagrangian"], "lagrangian")
    close(steps.loss, golden["loss"], "loss")
    # The reference keeps what it prunes, ours are exactly 0.
    final = pruning.apply_masks(params_below(f"{name}/final"), masks())
    for layer, leaves in final.items():
        for kind, expected in leaves.items():
            close(state.params[layer][kind], expected, layer)


@pytest.mark.parametrize("name", runs())
def test_log_of_the_training(name):
    """Every sample counts as it was in its own step."""
    params, steps = trained(name)[1]
    means = [
        evaluate(jax.tree.map(lambda leaf, t=t: leaf[t], params), slice(t, t + 1))
        for t in range(len(DATA["y"]))
    ]
    counts = np.array([one.group_count for one in means])

    def over_steps(values):
        return np.nansum(np.array(values) * counts, 0) / counts.sum(0)

    with logged(name, "train_epoch_log") as log:
        log.take("_epoch")
        close(steps.loss.mean(), log.take("loss"), "loss")
        close(steps.accuracy.mean(), log.take("acc"), "acc")
        losses, accuracies = (by_group(log, key) for key in ("group_loss", "group_acc"))
        close(over_steps([one.group_loss for one in means]), losses, "group_loss")
        close(over_steps([one.group_accuracy for one in means]), accuracies, "group_acc")


@pytest.mark.parametrize("name", runs())
def test_log_of_the_evaluation(name):
    found = evaluate(trained(name)[0].params, TEST_BATCHES)
    gaps = reporting.accuracy_gaps(evaluate(params_below("init"), TEST_BATCHES), found)
    excess = gaps.excess_gap
    with logged(name, "evaluate_one_epoch_test") as log:
        log.take("_epoch")
        close(found.loss, log.take("loss"), "loss")
        close(found.accuracy, log.take("acc"), "acc")
        close(found.group_loss, by_group(log, "group_loss"), "group_loss")
        close(found.group_accuracy, by_group(log, "group_acc"), "group_acc")
        close(gaps.group_gap, by_group(log, "group_acc_gap"), "group_acc_gap")
        close(np.std(gaps.group_gap, ddof=1), log.take("accuracy_gap_std"), "accuracy_gap_std")
        close(gaps.overall_gap, log.take("accuracy_gap"), "accuracy_gap")
        violation = np.array(by_group(log, "violation"))
        close(excess - excess[0], violation - violation[0], "violation")
        close(np.median(excess), log.take(f"quantile_0.5_{EXCESS}"), "median")
        close(excess.max(), log.take(f"max_{EXCESS}"), "max")
