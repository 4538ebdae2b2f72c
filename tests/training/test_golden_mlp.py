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

from bap_jax import audit, models, pruning, training
from bap_jax.constraints import excess_accuracy_gap
from bap_jax.training.settings import DualSettings
from bap_jax.types import Dataset, Variables
from tests import golden_files
from tests.lagrangian.problems import reference_scheme

TOLERANCE = 2e-6
PRIMAL = {"learning_rate": 0.05, "momentum": 0.9}
DUAL = DualSettings(learning_rate=0.1)
BUFFER_SIZE = 5
TEST_BATCHES = 3
METHODS = {"ceag": excess_accuracy_gap}

DATA = golden_files.case("f/mlp")
LAYERS = sorted(key.split("/")[1] for key in DATA if re.fullmatch(r"init/main\.\d+\.weight", key))


def runs():
    """Golden runs. Weight decay is left out: there the reference regularises the last layer alone
    and lets the regulariser leak into the constraint."""
    names = golden_files.cases("f/mlp/", "lambda_final")
    return [name for name in names if float(re.search(r"_wd([\d.]+)", name)[1]) == 0]


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


def split(num_batches):
    """The samples of the first batches, `(sample, ...)`."""
    inputs, labels = DATA["x"][:num_batches], DATA["y"][:num_batches].astype(np.int32).ravel()
    return Dataset(inputs.reshape(labels.size, -1), labels, labels[:, None])


def evaluate(params, num_batches=None):
    """Means of the network with these parameters over the first batches."""
    evaluator = training.make_evaluator(network(), int(DATA["y"].max()) + 1)
    return evaluator(Variables(params, {}), split(num_batches))


def network():
    return models.from_linen(models.MLP([DATA[f"init/{layer}"].shape[0] for layer in LAYERS]))


def logged(name, log):
    """What the reference logged in this run, by the name's last split."""
    return {
        key.rsplit("/", 1)[-1]: value
        for key, value in golden_files.SETTINGS[f"f/mlp/{name}/{log}"].items()
    }


def by_group(log, key):
    return [log[name] for name in sorted(log) if re.fullmatch(rf"{key}_\d+", name)]


@functools.cache
def trained(name):
    """State after the run, and its metrics, one row a step."""
    log = logged(name, "evaluate_one_epoch_test")
    tolerance = log["group_acc_gap_0"] - log["accuracy_gap"] - log["violation_0"]
    trainer = training.make_trainer(
        network(),
        reference_scheme(
            "dual_primal", optax.sgd(**PRIMAL), training.dual_formulation(DUAL, "full")
        ),
        METHODS[name.split("_")[0]](
            training.dense_reference(evaluate(params_below("init"))),
            tolerance,
            buffer_size=BUFFER_SIZE,
            overall_accuracy="group_mean",
        ),
        training.Pruner(pruning.FixedMasks(masks=masks())),
        constrained_from=0,
    )
    state = trainer.init(Variables(params_below("init"), {}), jax.random.key(0))
    steps = jnp.arange(DATA["y"].size).reshape(DATA["y"].shape)
    run = functools.partial(trainer.step, data=split(None), epoch=int(log["_epoch"]))
    return jax.jit(lambda state: jax.lax.scan(lambda s, i: run(s, indices=i), state, steps))(state)


def test_there_are_runs():
    assert runs()


@pytest.mark.parametrize("name", runs())
def test_eight_steps(name):
    golden = golden_files.case(f"f/mlp/{name}")
    state, steps = trained(name)
    found = {
        "lambda_final": state.lagrangian.multipliers,
        "lagrangian": steps.lagrangian,
        "loss": steps.loss,
    }
    for key, value in found.items():
        np.testing.assert_allclose(value, golden[key], rtol=0, atol=TOLERANCE, err_msg=key)
    # The reference keeps what it prunes, ours are exactly 0.
    final = pruning.apply_masks(params_below(f"{name}/final"), masks())
    for layer, leaves in final.items():
        for kind, expected in leaves.items():
            value = state.params[layer][kind]
            np.testing.assert_allclose(value, expected, rtol=0, atol=TOLERANCE, err_msg=layer)
    log = logged(name, "train_epoch_log")
    means = [steps.loss.mean(), steps.accuracy.mean()]
    np.testing.assert_allclose(means, [log["loss"], log["acc"]], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", runs())
def test_evaluation_of_the_result(name):
    log = logged(name, "evaluate_one_epoch_test")
    found = evaluate(trained(name)[0].params, TEST_BATCHES)
    gaps = audit.accuracy_gaps(evaluate(params_below("init"), TEST_BATCHES), found)
    for value, expected in (
        (found.loss, log["loss"]),
        (found.accuracy, log["acc"]),
        (found.group_loss, by_group(log, "group_loss")),
        (found.group_accuracy, by_group(log, "group_acc")),
        (gaps.group_gap, by_group(log, "group_acc_gap")),
        (gaps.overall_gap, log["accuracy_gap"]),
        (gaps.excess_gap.max(), log["max_acc_gap_violations_without_tol"]),
    ):
        np.testing.assert_allclose(value, expected, rtol=0, atol=TOLERANCE)
