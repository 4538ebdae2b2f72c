"""Networks whose inputs are pytrees go through the same computation as those of one array."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import bap_jax
from bap_jax import data, models, pipeline
from bap_jax.pipeline import memory
from bap_jax.training import Execution
from bap_jax.training.settings import PruningSettings, Settings
from bap_jax.trees import leaf_paths
from bap_jax.types import Dataset
from tests.test_api import arrays

TEST = np.arange(0, 200, 3)
QUICK = Settings(pruning=PruningSettings(sparsity=0.8, epochs=2), finetune_epochs=2)


class Pair(NamedTuple):
    left: Any
    right: Any


class Net(nnx.Module):
    """Takes its inputs apart by a function, and puts them together again."""

    def __init__(self, join=lambda x: x):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(6, 16, rngs=rngs)
        self.out = nnx.Linear(16, 3, rngs=rngs)
        self.join = join

    def __call__(self, x):
        return self.out(nnx.relu(self.first(self.join(x))))


def join(inputs):
    return jnp.concatenate(jax.tree.leaves(inputs), axis=-1)


def run(inputs, net=None, **options):
    options = {"test_indices": TEST, "settings": QUICK, **options}
    return bap_jax.prune_and_tune(net or Net(join), inputs, *arrays()[1:], **options)


@pytest.fixture(scope="module")
def of_one_array():
    return run(arrays()[0])


def assert_same(found, expected, **tolerance):
    kernels = [result.pruned.first.kernel[...] for result in (found, expected)]
    np.testing.assert_allclose(*kernels, **tolerance)
    assert found.report["splits"] == expected.report["splits"]


X = arrays()[0]


@pytest.mark.parametrize(
    "inputs",
    [
        {"a": X[:, :2], "b": {"c": X[:, 2:3], "d": X[:, 3:]}},
        Pair(X[:, :4].tolist(), X[:, 4:]),
    ],
    ids=["nested", "NamedTuple"],
)
def test_the_same_run_as_with_one_array(inputs, of_one_array):
    assert_same(run(inputs), of_one_array, rtol=0)


SPLIT = {"a": X[:, :2], "b": X[:, 2:]}


def rows(i):
    return {name: array[i] for name, array in SPLIT.items()}


def test_records_that_fit_are_read(of_one_array):
    assert_same(run(data.Records.of_samples(rows, len(X))), of_one_array, rtol=0)


@pytest.mark.smoke
def test_streamed_on_eight_devices():
    """Whole and read when needed, one device and eight: the same network."""
    records = data.Records.of_samples(rows, len(X))
    short = Settings(pruning=PruningSettings(sparsity=0.8, epochs=1), finetune_epochs=1)
    streamed = [Execution(epoch="loop", devices=count) for count in (1, 8)]
    one, eight = (run(records, settings=short, execution=each) for each in streamed)
    assert_same(eight, one, atol=1e-5)
    whole = run(SPLIT, settings=short, execution=Execution(devices=8))
    assert_same(whole, one, atol=1e-5)


class TwoInputs(linen.Module):
    """Words are embedded and averaged where the mask is True."""

    @linen.compact
    def __call__(self, inputs):
        assert inputs["tokens"].dtype == jnp.int32 and inputs["mask"].dtype == jnp.bool_
        self.sow("intermediates", "age", inputs["age"])
        words = linen.Embed(9, 8, name="embed")(inputs["tokens"])
        mask = inputs["mask"][..., None].astype(words.dtype)
        x = (words * mask).sum(1) / jnp.maximum(mask.sum(1), 1)
        x = jnp.concatenate([x, linen.Dense(4, name="ages")(inputs["age"])], -1)
        x = linen.relu(linen.Dense(8, name="a_hidden")(x))
        return linen.Dense(3, name="a_head")(linen.relu(linen.Dense(8, name="b_hidden")(x)))


def words(count=200):
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 9, (count, 5))
    return {
        "tokens": tokens.astype(np.int32),
        "mask": rng.random((count, 5)) < 0.8,
        "age": rng.normal(size=(count, 2)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def of_words():
    net, inputs = TwoInputs(), words()
    variables = net.init(jax.random.key(0), jax.tree.map(lambda leaf: leaf[:1], inputs))
    return net, {"params": variables["params"]}, inputs


@pytest.mark.smoke
@pytest.mark.parametrize("algorithm", ["snip", "synflow"])
def test_words_with_a_mask(of_words, algorithm):
    net, variables, inputs = of_words
    labels, side = inputs["tokens"].max(1) % 3, np.where(inputs["age"][:, 0] > 0, "old", "young")
    pruning = PruningSettings(algorithm=algorithm, sparsity=0.5, epochs=1)
    settings = Settings(pruning=pruning, finetune_epochs=1)
    options = {"variables": variables, "test_indices": TEST, "settings": settings}
    found = bap_jax.prune_and_tune(net, inputs, labels, side, **options)
    kernel = found.pruned["params"]["b_hidden"]["kernel"]
    assert (np.asarray(kernel) == 0).any()
    logits = net.apply(found.pruned, jax.tree.map(lambda leaf: leaf[TEST], inputs))
    assert isinstance(logits, jax.Array)
    np.testing.assert_array_equal(logits.argmax(-1), found.predictions["test"].sparse)


def test_estimates(of_words):
    net, variables, inputs = of_words
    model, variables = models.adapt(net, variables)
    order = models.kernel_order(model, variables, inputs)
    paths = leaf_paths(variables.params)
    assert [paths[use.leaf] for use in order] == [
        f"{name}/kernel" for name in ("ages", "a_hidden", "b_hidden", "a_head")
    ]
    assert models.cost(net, {"params": variables.params}, inputs) == models.Cost(
        params=9 * 8 + (2 + 1) * 4 + (12 + 1) * 8 + (8 + 1) * 8 + (8 + 1) * 3,
        multiply_adds=2 * 4 + 12 * 8 + 8 * 8 + 8 * 3,
    )


def test_the_memory_of_a_program():
    labels, side = arrays()[1:]
    sizes = []
    for inputs, net in ((X, Net()), (SPLIT, Net(join))):
        samples = Dataset(inputs, labels, (side == "north").astype(int)[:, None])
        splits = data.make_splits(samples, 3, ["south", "north"], test_indices=TEST)
        context = pipeline.make_context(*models.adapt(net), splits)
        sizes.append(memory.need_of_program(context, QUICK).per_member)
        assert data.nbytes(splits.train) == splits.train.size * (6 * 4 + 8 + 8)
    joined = 128 * 6 * 4  # what putting the arrays together takes
    assert sizes[1] - sizes[0] == joined


def test_lower_precision_casts_the_leaves_that_are_floats():
    seen = {}

    def apply(variables, inputs, *, train, key):
        seen.update(jax.tree.map(lambda leaf: str(leaf.dtype), inputs))
        return jnp.zeros((1, 2)), variables.state

    model = models.Model(lambda key, inputs: bap_jax.Variables({}, {}), apply)
    inputs = {
        "ids": jnp.zeros(1, jnp.int32),
        "seen": jnp.zeros(1, bool),
        "pixels": jnp.zeros(1, jnp.uint8),
        "age": jnp.zeros(1),
        "half": jnp.zeros(1, jnp.float16),
    }
    models.in_precision(model, "bfloat16").apply(
        bap_jax.Variables({}, {}), inputs, train=False, key=None
    )
    assert seen == {
        "ids": "int32",
        "seen": "bool",
        "pixels": "uint8",
        "age": "bfloat16",
        "half": "bfloat16",
    }


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (
            {"a": X[:, :3], "b": X[:, :2]},
            r"cannot be applied to inputs of inputs\['a'\] \(1, 3\) float32, inputs\['b'\] \(1,",
        ),
        ({"a": X[:-1, :4], "b": X[:, 4:]}, r"got inputs\['a'\] 199, inputs\['b'\] 200, labels 200"),
        ({"a": X[:, :4], "b": np.where(X[:, 4:] > 2, np.nan, 0)}, r"inputs\['b'\] hold \d+ NaN"),
        (tuple(X), r"inputs\[7\] 6 and 192 more, labels 200, groups 200\. .*write np\.stack"),
    ],
)
def test_mistakes(inputs, text):
    with pytest.raises(bap_jax.UserError, match=text):
        run(inputs)


def test_augmentation_reaches_the_steps_and_not_the_evaluation(of_one_array):
    """Batches of zeros teach the network nothing; it is evaluated on what was given."""

    def no_input(key, inputs):
        return jax.tree.map(jnp.zeros_like, inputs)

    pruning = PruningSettings(sparsity=0.5, epochs=1)
    still = Settings(pruning=pruning, finetune_epochs=1, method="nft")
    found = run(SPLIT, augment=no_input, settings=still)
    before, after = (np.array(net.first.kernel[...]) for net in (Net(), found.pruned))
    np.testing.assert_array_equal(after, np.where(after == 0, 0, before))
    assert (found.pruned.out.bias[...] != 0).all()
    dense = [result.report["splits"]["test"]["dense_accuracy"] for result in (found, of_one_array)]
    assert dense[0] == dense[1]


def test_augmentation_is_checked_first():
    with pytest.raises(bap_jax.UserError, match="augment must return inputs of the structure"):
        run(SPLIT, augment=lambda key, inputs: inputs["a"])
