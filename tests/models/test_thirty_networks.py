"""Networks of many kinds: each is pruned, tuned, and comes back as its user gave it.

Every one runs through two steps of the constrained tuning, as one compiled loop; a slow test calls
`prune_and_tune` with each.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bap_jax
from bap_jax import models
from bap_jax.constraints import DenseReference
from bap_jax.metrics import find_criterion
from bap_jax.pipeline.assembly import pruner_from_settings, trainer_from_settings
from bap_jax.training.methods import build_method
from bap_jax.training.settings import PruningSettings, Settings
from bap_jax.types import Dataset
from tests.models.linen_networks import LINEN
from tests.models.networks import BATCH, INPUTS
from tests.models.nnx_networks import NNX

CASES = NNX | LINEN
# Their peculiarities have small tests of their own.
SLOW = {
    *("training of a layer", "keys of another implementation", "raw keys"),
    *("Linen layers handed in", "Linen inputs as arguments"),
}
SETTINGS = Settings(
    pruning=PruningSettings(sparsity=0.5, epochs=1, prunable="kernels"), finetune_epochs=1
)
KEYS = jax.random.split(jax.random.key(1))


def test_there_are_thirty():
    assert len(CASES) >= 30


def brought(case):
    """The network of a case, and its variables as its user has them: for NNX None."""
    network = case.make()
    if isinstance(network, nnx.Module):
        return network, None
    method = lambda module, inputs: case.evaluate(module, inputs)  # noqa: E731
    return network, jax.jit(lambda x: network.init(KEYS[0], x, method=method))(INPUTS[case.inputs])


def own_forward(case, network, exported):
    """The logits of an exported network, as its user evaluates it."""
    inputs = INPUTS[case.inputs]
    if isinstance(network, nnx.Module):
        return case.evaluate(exported, inputs)
    method = lambda module, inputs: case.evaluate(module, inputs)  # noqa: E731
    return network.apply(exported, inputs, method=method)


def trainer_and_data(model, variables, inputs, loss):
    """The trainer of CEAG for two groups, with samples of as many classes as there are."""
    logits = jax.eval_shape(lambda v: model.apply(v, inputs, train=False, key=None)[0], variables)
    samples = jnp.arange(BATCH)
    classes = logits.shape[1] if loss is None else 2
    data = Dataset(inputs, samples % classes, samples[:, None] % 2)
    half = jnp.array([0.5, 0.5])
    reference = DenseReference(half, jnp.float32(0.5), half, jnp.float32(0.5), half, half * BATCH)
    pruner = pruner_from_settings(model, variables, data, SETTINGS, 2)
    method = build_method(reference, SETTINGS)
    criterion = find_criterion(loss)
    return trainer_from_settings(model, method, pruner, SETTINGS, 2, criterion), data


def marks_of(name):
    """By default those of NNX run; Linen networks are smoke tests."""
    if name in SLOW:
        return [pytest.mark.slow]
    return [pytest.mark.smoke] * (name in LINEN)


@pytest.mark.parametrize("name", [pytest.param(n, marks=marks_of(n)) for n in CASES])
def test_it_trains_is_pruned_and_comes_back(name):
    case = CASES[name]
    network, given = brought(case)
    model, variables = models.adapt(network, given, case.apply)
    inputs = INPUTS[case.inputs]
    models.check_modes(model, variables, inputs)
    trainer, data = trainer_and_data(model, variables, inputs, case.loss)

    @jax.jit
    def everything(variables, data, keys):
        train = jax.vmap(lambda key: model.apply(variables, data.inputs, train=True, key=key))
        state = trainer.init(variables, keys[0])
        state, metrics = trainer.run_steps(state, data, jnp.arange(BATCH).reshape(2, -1), 1)
        after = model.apply(state.variables, data.inputs, train=False, key=None)[0]
        exported = own_forward(case, network, model.export(state.variables))
        return train(keys), state, metrics, after, exported

    (logits, moved), state, metrics, after, exported = everything(variables, data, KEYS)
    assert after.dtype == jnp.float32 and np.isfinite(metrics.loss).all()
    exact = exported.dtype == jnp.float32  # of bfloat16, XLA may skip a rounding
    np.testing.assert_allclose(after, np.float32(exported), atol=2e-6 if exact else 0.02)
    assert bool((logits[0] != logits[1]).any()) == case.random
    assert differs(floats(variables.state), [new[0] for new in floats(moved)]) == case.moves
    assert differs(*map(jax.tree.leaves, (variables.params, state.params)))
    assert_half_are_zero(state)
    assert_like_given(given, network, model.export(state.variables))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_whole_call(name):
    case = CASES[name]
    network, given = brought(case)
    inputs = jax.tree.map(lambda x: np.concatenate([np.asarray(x)] * 8), INPUTS[case.inputs])
    size = len(jax.tree.leaves(inputs)[0])
    result = bap_jax.prune_and_tune(
        network,
        inputs,
        np.arange(size) % (3 if case.loss is None else 2),
        [f"group {i % 2}" for i in range(size)],
        test_indices=np.arange(0, size, 3),
        variables=given,
        apply=case.apply,
        loss=case.loss,
        settings=SETTINGS,
    )
    assert result.report["sparsity"]["prunable"] == pytest.approx(0.5, abs=0.05)
    judged = result.predictions["test"]
    tuned = own_forward(case, network, result.pruned)
    tuned = tuned.argmax(1) if case.loss is None else tuned > 0
    expected = np.concatenate([np.asarray(tuned)] * 8)[judged.id]
    np.testing.assert_array_equal(judged.sparse_correct, expected == judged.label)
    if case.loss is None:
        np.testing.assert_array_equal(judged.sparse, expected)
    assert_like_given(given, network, result.pruned)


def differs(one, other):
    return any(np.any(a != b) for a, b in zip(one, other, strict=True))


def floats(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]


def assert_half_are_zero(state):
    masks = jax.tree.leaves(state.masks)
    leaves = jax.tree.leaves(state.masks, is_leaf=lambda leaf: leaf is None)
    kernels = [
        kernel
        for kernel, mask in zip(jax.tree.leaves(state.params), leaves, strict=True)
        if mask is not None
    ]
    removed = sum(float((mask == 0).sum()) for mask in masks)
    assert removed == pytest.approx(0.5 * sum(mask.size for mask in masks), abs=len(masks))
    for kernel, mask in zip(kernels, masks, strict=True):
        assert not jnp.any(jnp.where(mask == 0, kernel, 0))


def assert_like_given(given, network, exported):
    """The same module, or the same dict, of the same shapes and types, boxes included."""
    if given is None:
        assert type(exported) is type(network)
        given, exported = nnx.state(network, nnx.Param), nnx.state(exported, nnx.Param)
    else:
        given = {name: value for name, value in given.items() if name in exported}
    assert jax.tree.structure(given) == jax.tree.structure(exported)
    both = zip(*map(jax.tree.leaves, (given, exported)), strict=True)
    assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in both)
