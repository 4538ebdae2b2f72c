"""The residual network, compared with the reference's and by itself."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import metrics, models, pipeline, pruning
from bap_jax.errors import UserError
from bap_jax.models import registry
from bap_jax.models.batch_norm import active_channels
from bap_jax.models.resnet import Block, ResNet
from bap_jax.pruning.masks import map_masks
from bap_jax.training.settings import Settings
from bap_jax.types import Variables
from tests import golden_files

TOLERANCE = 2e-6
# Relative to the largest entry, which is 0.01 to 0.2; an absolute 2e-6 would say little. Sums over
# up to 6·32·32 positions in another order differ by 2e-6 of it.
GRADIENT_TOLERANCE = 5e-6

RUNS = golden_files.cases("f/", "dense_eval_logits")
STATS = [
    key.split("/")[1]
    for key in golden_files.SETTINGS
    if re.fullmatch(r"f/resnet\d+/model_stats", key)
]
SETTINGS = Settings()


def our_layer(name):
    """Path of the submodule that the reference calls `name`."""
    name = name.replace("downsample_", "shortcut_").replace("bn", "norm")
    if name == "fc":
        return ("head",)
    if "." not in name:
        return (name.replace("1", "_0"),)
    stage, block, layer = name.split(".")
    layer = re.sub(r"(\d)", r"_\1", layer)
    return (f"{stage.replace('layer', 'stage_')}_block_{block}", layer)


def our_layout(array):
    """Convolutions (out, in, height, width) → (height, width, in, out); matrices transposed."""
    return np.transpose(array, {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim))


def our_path(name):
    """`(collection, path)` of an array that the reference calls `layer.weight` and the like."""
    layer, kind = name.rsplit(".", 1)
    if kind.startswith("running_"):
        return "batch_stats", (*our_layer(layer), kind.removeprefix("running_"))
    is_norm = "bn" in layer
    return "params", (
        *our_layer(layer),
        {"weight": "scale" if is_norm else "kernel"}.get(kind, kind),
    )


def entry(tree, path):
    return functools.reduce(lambda node, name: node[name], path, tree)


def put(tree, path, value):
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def below(golden, prefix):
    return {key.removeprefix(prefix): v for key, v in golden.items() if key.startswith(prefix)}


class Run:
    """The reference's network `name`, its arrays and its masks, in our form."""

    def __init__(self, name):
        self.name, self.golden = name, golden_files.case(f"f/{name}")
        self.num_classes = self.golden["dense_eval_logits"].shape[-1]
        self.model = models.from_linen(
            ResNet(self.num_classes, depth=int(name.removeprefix("resnet")))
        )
        trees = {"params": {}, "batch_stats": {}}
        for key, value in below(self.golden, "init/").items():
            if not key.endswith("num_batches_tracked"):
                collection, path = our_path(key)
                put(trees[collection], path, jnp.asarray(our_layout(value)))
        self.variables = Variables(trees["params"], {"batch_stats": trees["batch_stats"]})
        self.inputs = jnp.transpose(self.golden["x"], (0, 2, 3, 1))
        self.labels = self.golden["y"].astype(np.int32)
        (self.sparsity, masks), *others = self._masks().items()
        assert not others, "several sparsities but one set of logits"
        self.masks = jax.tree.map(lambda leaf: None, self.variables.params)
        for layer, mask in masks.items():
            put(self.masks, (*our_layer(layer), "kernel"), jnp.asarray(our_layout(mask)))

    def _masks(self):
        found = {}
        for key, value in self.golden.items():
            if match := re.fullmatch(r"mask([\d.]+?)/(.*)", key):
                found.setdefault(float(match[1]), {})[match[2]] = value
        return found

    def masked(self):
        return self.variables._replace(
            params=pruning.apply_masks(self.variables.params, self.masks)
        )

    @functools.cached_property
    def trained(self):
        """((loss, (logits, state)), gradient) of the masked network in training."""

        def loss(params):
            variables = self.variables._replace(params=pruning.apply_masks(params, self.masks))
            logits, state = self.model.apply(variables, self.inputs, train=True)
            return metrics.cross_entropy(logits, self.labels).mean(), (logits, state)

        with jax.default_matmul_precision("highest"):  # matters on accelerators only
            return jax.jit(jax.value_and_grad(loss, has_aux=True))(self.variables.params)


get_run = functools.cache(Run)


def assert_close(found, expected, name, tolerance=TOLERANCE):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=name)


def prunable_paths(model, variables):
    """Paths of the kernels that the preset chooses; only shapes of the network are known."""
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables.state)
    variables = variables._replace(state=state)
    chosen = pipeline.find_prunable(model, variables, jnp.zeros((1, 32, 32, 3)), SETTINGS)
    paths = pruning.leaf_paths(variables.params)
    return [path for path, yes in zip(paths, jax.tree.leaves(chosen), strict=True) if yes]


def test_the_default_folder_holds_runs_and_the_preset_prunes_as_the_reference_does():
    assert SETTINGS.pruning.prunable == "all_but_first_and_last"
    if golden_files.FOLDER == golden_files.DEFAULT_FOLDER:
        assert RUNS and STATS


@pytest.mark.parametrize("name", RUNS)
def test_evaluation(name):
    run = get_run(name)
    forward = jax.jit(lambda variables: run.model.apply(variables, run.inputs, train=False)[0])
    with jax.default_matmul_precision("highest"):
        assert_close(forward(run.variables), run.golden["dense_eval_logits"], "dense")
        assert_close(forward(run.masked()), run.golden["masked_eval_logits"], "masked")


@pytest.mark.parametrize("name", RUNS)
def test_training(name):
    run = get_run(name)
    (loss, (logits, state)), grads = run.trained
    assert_close(logits, run.golden["masked_train_logits"], "logits")
    assert_close(loss, run.golden["train_loss"], "loss")
    for key, expected in golden_files.some(below(run.golden, "grad/"), "gradients").items():
        found, tolerance = entry(grads, our_path(key)[1]), GRADIENT_TOLERANCE * abs(expected).max()
        assert_close(found, our_layout(expected), key, tolerance)
    after = golden_files.some(below(run.golden, "after_train_fwd/"), "running statistics")
    for key, expected in after.items():
        if not key.endswith("num_batches_tracked"):
            assert_close(entry(state["batch_stats"], our_path(key)[1]), expected, key)


@pytest.mark.parametrize("name", RUNS)
def test_masks(name):
    run = get_run(name)

    def distribution(params):
        return map_masks(
            lambda mask, kernel: run.sparsity, run.masks, params, otherwise=lambda kernel: None
        )

    pruner = pruning.MagnitudePruning(counting="ceil", sparsity_distribution_fn=distribution)
    _, masks = jax.jit(pruner.instant_sparsify)(run.variables.params)
    chex.assert_trees_all_equal(masks, run.masks)


@pytest.mark.parametrize("name", STATS)
def test_counts_and_prunable_layers(name):
    golden, depth = golden_files.SETTINGS[f"f/{name}/model_stats"], int(name[len("resnet") :])
    # What cannot be pruned is the first layer (3·9·16 + 2·16) and the last (64 a class, and 1).
    num_classes, rest = divmod(golden["num_params"] - golden["num_sparse_params"] - 464, 65)
    assert rest == 0
    model = models.build("resnet", int(num_classes), depth=depth)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables.params)) == golden["num_params"]
    chosen = prunable_paths(model, variables)
    layers = golden_files.SETTINGS.get(f"f/{name}/masked_layers", ())
    if isinstance(layers, int):
        assert len(chosen) == layers
    elif layers:
        assert sorted(chosen) == sorted("/".join((*our_layer(one), "kernel")) for one in layers)


@pytest.mark.parametrize("name", [name for name in RUNS if name in STATS])
def test_parameters_left_by_masks(name):
    """Parameters of inactive channels' normalisation do not count as active."""
    run = get_run(name)
    total = sum(leaf.size for leaf in jax.tree.leaves(run.variables.params))
    for mask in jax.tree.leaves(run.masks):
        total -= np.size(mask) - np.count_nonzero(mask)
        total -= 2 * np.count_nonzero(~active_channels(mask))
    assert total == golden_files.SETTINGS[f"f/{name}/model_stats"]["num_active_params"]


MODEL = models.build("resnet", 3, depth=8, width=4)
IMAGES = jax.random.normal(jax.random.key(1), (4, 7, 9, 2))


def drawn(model, images=IMAGES):
    """Variables from NumPy's generator: compiling `init` takes longer than the test itself."""
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    draw = np.random.default_rng(0).normal
    return Variables(
        jax.tree.map(lambda leaf: jnp.float32(draw(0, 0.3, leaf.shape)), variables.params),
        jax.tree.map(lambda leaf: jnp.float32(abs(draw(1, 0.3, leaf.shape))), variables.state),
    )


def test_jit_is_no_jit_on_images_of_odd_size():
    """7 × 9 pixels at stride 2 leave 4 × 5; the whole network has 2 × 3 at its end."""
    block = models.from_linen(Block(4, 2))
    variables = drawn(block)
    plain = block.apply(variables, IMAGES, train=True)
    jitted = jax.jit(functools.partial(block.apply, train=True))(variables, IMAGES)
    assert plain[0].shape == (4, 4, 5, 4)
    chex.assert_trees_all_close(jitted, plain, rtol=1e-5, atol=1e-5)
    logits, _ = jax.eval_shape(functools.partial(MODEL.apply, train=True), drawn(MODEL), IMAGES)
    assert logits.shape == (4, 3)


def test_a_channel_without_weights_stays_finite_and_silent():
    """All of `conv_1` pruned: its normalisation gets no gradient, its statistics stay."""
    variables = drawn(MODEL)
    block = {**variables.params["stage_2_block_0"]}
    block["conv_1"] = {"kernel": jnp.zeros_like(block["conv_1"]["kernel"])}
    block["norm_1"] = {"scale": jnp.ones(8), "bias": jnp.ones(8)}

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def loss(params):
        logits, state = MODEL.apply(variables._replace(params=params), IMAGES, train=True)
        return jnp.square(logits).sum(), (logits, state)

    grads, (logits, state) = loss({**variables.params, "stage_2_block_0": block})
    chex.assert_tree_all_finite((grads, logits, state))
    for leaf in jax.tree.leaves(grads["stage_2_block_0"]["norm_1"]):
        np.testing.assert_array_equal(leaf, 0)
    before, after = (
        s["batch_stats"]["stage_2_block_0"]["norm_1"] for s in (variables.state, state)
    )
    chex.assert_trees_all_equal(before, after)


def test_images_without_a_channel_axis_have_one_channel():
    one, other = (
        jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros(s))
        for s in ((2, 7, 7), (2, 7, 7, 1))
    )
    chex.assert_trees_all_equal(one, other)


def test_first_weights_keep_the_size_of_gradients():
    """Variance 2 / (9 · 32), by outgoing connections; 1×1 shortcuts 2 / 32."""
    key = jax.random.key(0, impl="rbg")  # compiles faster
    params = Block(32, 2).init(key, jnp.zeros((1, 4, 4, 16)), False)["params"]
    for name, expected in (("conv_1", 1 / 12), ("conv_2", 1 / 12), ("shortcut_conv", 1 / 4)):
        np.testing.assert_allclose(params[name]["kernel"].std(), expected, rtol=0.1)


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_impossible_depths(depth):
    message = rf"must be 6n \+ 2 with n ≥ 1, for instance 20, 32 or 56; got {depth}\."
    with pytest.raises(UserError, match=message):
        models.build("resnet", 10, depth=depth)


def test_inputs_that_are_not_images():
    with pytest.raises(UserError, match=r"takes images .* got inputs of shape \(4, 64\)\."):
        MODEL.init(jax.random.key(0), jnp.zeros((4, 64)))


def test_options_of_a_network():
    assert registry.options("mlp") == ("hidden",)
    assert registry.options("resnet") == (
        "depth",
        "width",
        "stem_stride",
        "convolution",
        "masked_norm",
    )
    with pytest.raises(UserError, match="unknown model .cnn.; known models: mlp, resnet, image"):
        registry.options("cnn")
    with pytest.raises(UserError, match=r"model 'resnet' cannot be built with .*'hidden'"):
        models.build("resnet", 10, hidden=(4,))


def test_masked_normalisation_is_an_option():
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    masked, plain = (
        models.build("resnet", 3, depth=8, width=4, masked_norm=m) for m in (True, False)
    )
    variables = drawn(masked, x)
    params = jax.tree.map(lambda leaf: leaf + 0.3 if leaf.ndim == 1 else leaf, variables.params)

    @functools.partial(jax.jit, static_argnums=0)
    def logits(model, params):
        return model.apply(variables._replace(params=params), x, train=False, key=None)[0]

    np.testing.assert_array_equal(logits(masked, params), logits(plain, params))
    kernel = params["stage_1_block_0"]["conv_1"]["kernel"].at[..., 1].set(0)
    pruned = {
        **params,
        "stage_1_block_0": {**params["stage_1_block_0"], "conv_1": {"kernel": kernel}},
    }
    found = [logits(model, pruned) for model in (masked, plain)]
    assert np.abs(found[0] - found[1]).max() > 1e-3  # the bias of a channel without weights
    assert [group.silent for group in models.channel_groups(plain)] == [False] * 6
    assert all(group.silent for group in models.channel_groups(masked))


def test_a_stride_in_front():
    x = jnp.ones((1, 32, 32, 3))
    model = models.build("resnet", 3, depth=8, width=4, stem_stride=2)
    plain = models.build("resnet", 3, depth=8, width=4)
    one, other = (jax.eval_shape(m.init, jax.random.key(0), x) for m in (model, plain))
    chex.assert_trees_all_equal_shapes(one.params, other.params)
    costs = [models.cost(m, v, x).multiply_adds for m, v in ((model, one), (plain, other))]
    assert costs[0] < costs[1] / 3.9  # but for the head
