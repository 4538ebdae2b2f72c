"""SNIP and SynFlow: scores by hand, conservation, collapse, range, counts and rounds."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax.errors import UserError
from bap_jax.pruning import foresight
from bap_jax.pruning.counting import kept_count
from bap_jax.pruning.foresight import snip, synflow

WIDTHS = [5, 20, 7]  # of most tests: a selection is compiled once for each set of shapes


def mlp(widths=WIDTHS, biases=False):
    """Kernels (and biases) of a ReLU network, and which of them are pruned."""
    rng, params = np.random.default_rng(0), {}
    for i, shape in enumerate(itertools.pairwise(widths)):
        params[f"d{i}"] = {"w": jnp.asarray(rng.normal(size=shape), jnp.float32)}
        if biases:
            params[f"d{i}"]["b"] = jnp.asarray(rng.normal(size=shape[1]), jnp.float32)
    return params, jax.tree.map(lambda leaf: leaf.ndim == 2, params)


def apply(params, x):
    for i, layer in enumerate(params.values()):
        x = (jax.nn.relu(x) if i else x) @ layer["w"]
        x = x + layer["b"][None] if "b" in layer else x
    return x


def ones_forward(params):
    rows = next(iter(params.values()))["w"].shape[0]
    return apply(params, jnp.ones((1, rows))).sum()


def loss(params, batch):
    return jnp.mean(jnp.square(apply(params, batch[0]) - batch[1]))


def batches_of(rows, columns, count=3):
    rng = np.random.default_rng(1)
    return [(rng.normal(size=(16, rows)), rng.normal(size=(16, columns))) for _ in range(count)]


def kept(masks):
    return sum(int(mask.sum()) for mask in jax.tree.leaves(masks))


def run(criterion, params, prunable, sparsity, **settings):
    if criterion is synflow:
        return synflow(ones_forward, params, prunable, sparsity, **settings)
    shapes = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    batches = batches_of(shapes[0][0], shapes[-1][1])
    return snip(loss, params, prunable, sparsity, batches, **settings)


BOTH = pytest.mark.parametrize("criterion", [snip, synflow])


def test_snip_by_hand():
    # ℓ = w · x, so Σ ∂ℓ/∂w over the batches is (1 − 3, 1 + 1, 2 + 0, 9).
    params = {"w": jnp.array([4.0, 1.0, -2.0, 0.0]), "b": jnp.ones(2)}
    batches = iter([jnp.array([1.0, 1.0, 2.0, 9.0]), jnp.array([-3.0, 1.0, 0.0, 0.0])])
    prunable = {"w": True, "b": False}
    masks = snip(lambda p, x: p["w"] @ x, params, prunable, 0.5, batches, rounds=1)
    np.testing.assert_array_equal(masks["w"], [1, 0, 1, 0])  # |w g| = 8, 2, 4, 0
    assert masks["b"] is None and masks["w"].dtype == jnp.uint8


def test_gradients_are_summed_before_the_product():
    # |w g| of the first weight is 5 in each batch, but cancels over both.
    batches = [jnp.array([5.0, 1.0, 0.0, 0.0]), jnp.array([-5.0, 1.0, 0.0, 0.0])]
    params, prunable = {"w": jnp.ones(4)}, {"w": True}
    masks = snip(lambda p, x: p["w"] @ x, params, prunable, 0.75, batches, rounds=1)
    np.testing.assert_array_equal(masks["w"], [0, 1, 0, 0])


def test_each_round_is_scored_at_the_masked_weights():
    # ℓ = a (b + d) + .9 c scores 1.2, .6, .9, .6; without b and d, a is worth nothing.
    def product(params, batch):
        a, b, c, d = params["w"]
        return a * (b + d) + 0.9 * c

    params = {"w": jnp.array([1.0, 0.6, 1.0, 0.6])}
    one = snip(product, params, {"w": True}, 0.75, [0], rounds=1)
    np.testing.assert_array_equal(one["w"], [1, 0, 0, 0])
    two = snip(product, params, {"w": True}, 0.75, [0], rounds=2)
    np.testing.assert_array_equal(two["w"], [0, 0, 1, 0])


def flow_scores(forward, params):
    """Scores of all leaves at full density."""
    params = jax.tree.map(jnp.abs, params)
    prunable = jax.tree.map(lambda leaf: True, params)
    return foresight.flow_scorer(forward, params, prunable)(jax.tree.leaves(params))


def test_flow_is_conserved_from_layer_to_layer():
    params, _ = mlp([8, 32, 5, 16, 4])
    sums = [float(score.sum()) for score in flow_scores(ones_forward, params)]
    np.testing.assert_allclose(sums, float(ones_forward(jax.tree.map(jnp.abs, params))), rtol=1e-5)


@pytest.mark.parametrize("gain", [7.0, 0.07])
def test_deep_networks_stay_in_range(gain):
    # 60 layers: R is about 1e51 or 1e-68, both beyond float32.
    layers = np.abs(np.random.default_rng(0).normal(size=(60, 40, 40))).astype(np.float32)
    layers *= gain / layers.sum(1).mean()

    def forward(params):
        return jax.lax.scan(lambda x, w: (jax.nn.relu(x @ w), None), jnp.ones(40), params)[0].sum()

    plain = float(forward(layers))
    assert plain == 0 or not np.isfinite(plain)
    (scores,) = flow_scores(forward, layers)
    scores = np.asarray(scores)
    assert np.isfinite(scores).all() and (scores > 0).all()
    sums = scores.sum((1, 2))
    np.testing.assert_allclose(sums, sums[0], rtol=1e-4)
    masks = synflow(forward, layers, True, 0.9, rounds=3)
    assert kept(masks) == kept_count("ceil", 0.9, 60 * 1600)


def test_an_overflow_that_a_relu_hides():
    # Pruned weights make NaN of infinity, and ReLU may make 0 of NaN.
    params, prunable = mlp()
    params["d0"]["w"] = jnp.abs(params["d0"]["w"]) * 2.0**125
    params["d1"]["w"] = params["d1"]["w"].at[::2].set(0)
    expected = synflow(
        ones_forward, {**params, "d0": {"w": params["d0"]["w"] / 2.0**125}}, prunable, 0.8, rounds=4
    )
    found = synflow(ones_forward, params, prunable, 0.8, rounds=4)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_rescaling_changes_no_mask_of_a_chain():
    params, prunable = mlp()
    expected = synflow(ones_forward, params, prunable, 0.9, rounds=7)
    for factor in (2.0**70, 2.0**-70):
        scaled = jax.tree.map(lambda leaf, factor=factor: factor * leaf, params)
        found = synflow(ones_forward, scaled, prunable, 0.9, rounds=7)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_double_precision_keeps_the_share_of_biases():
    # The first layer times c, its bias too, and the second times c: R times c², beyond float32.
    params, prunable = mlp(biases=True)
    scaled = jax.tree.map(lambda leaf: 2.0**70 * leaf, params)
    expected = synflow(ones_forward, params, prunable, 0.9, rounds=5)
    narrow = synflow(ones_forward, scaled, prunable, 0.9, rounds=5)
    with jax.enable_x64(True):
        wide = synflow(ones_forward, scaled, prunable, 0.9, rounds=5)
    jax.tree.map(np.testing.assert_array_equal, wide, expected)
    assert (narrow["d0"]["w"] != expected["d0"]["w"]).any()  # as documented


def test_no_layer_collapses_where_global_magnitude_empties_one():
    params, prunable = mlp()
    params["d1"]["w"] *= 0.01
    flat = np.sort(np.concatenate([np.abs(leaf).ravel() for leaf in jax.tree.leaves(params)]))
    threshold = flat[-kept_count("ceil", 0.9, flat.size)]
    assert not (jnp.abs(params["d1"]["w"]) >= threshold).any()
    masks = synflow(ones_forward, params, prunable, 0.9)
    assert min(int(mask.sum()) for mask in jax.tree.leaves(masks)) > 0
    alive = jax.tree.map(lambda leaf, mask: leaf * mask, params, masks)
    assert float(ones_forward(jax.tree.map(jnp.abs, alive))) > 0


@BOTH
@pytest.mark.parametrize(
    ("counting", "rounds", "sparsity"),
    [
        ("ceil", 1, 0.07),
        ("ceil", 9, 0.9),
        ("ceil", 2, 0.0),
        ("round", 1, 0.999),
        ("round", 9, 0.93),
    ],
)
def test_counts_are_exact(criterion, counting, rounds, sparsity):
    params, prunable = mlp(biases=True)
    settings = {"rounds": rounds, "counting": counting}
    masks = run(criterion, params, prunable, sparsity, scope="layer", **settings)
    for layer in masks.values():
        assert layer["b"] is None and layer["w"].dtype == jnp.uint8
        assert kept(layer) == kept_count(counting, sparsity, layer["w"].size)
    masks = run(criterion, params, prunable, sparsity, **settings)
    assert kept(masks) == kept_count(counting, sparsity, 240)


@BOTH
def test_a_sparsity_for_each_leaf(criterion):
    params, prunable = mlp(biases=True)
    sparsity = {"d0": {"w": 0.9, "b": None}, "d1": {"w": None, "b": None}}
    masks = run(criterion, params, prunable, sparsity, scope="layer", rounds=3)
    assert kept(masks["d0"]) == 10 and kept(masks["d1"]) == 140


@BOTH
@pytest.mark.parametrize("scope", foresight.SCOPES)
def test_nothing_grows_back(criterion, scope, monkeypatch):
    params, prunable = mlp()
    seen, original = [], foresight.masked
    monkeypatch.setattr(foresight, "masked", lambda *a: seen.append(a[1]) or original(*a))
    final = run(criterion, params, prunable, 0.95, rounds=8, scope=scope)
    history = [*seen, jax.tree.leaves(final)]
    assert len(history) == 9
    for before, after in itertools.pairwise(history):
        for old, new in zip(before, after, strict=True):
            assert (new <= old).all()
    density = [kept(masks) / 240 for masks in history]
    np.testing.assert_allclose(density, 0.05 ** (np.arange(9) / 8), atol=1 / 80)


@BOTH
def test_only_pruned_leaves_are_scored_and_low_precision_is_taken(criterion):
    params, prunable = mlp()
    prunable["d0"]["w"] = False
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    masks = run(criterion, params, prunable, 0.5, rounds=2)
    assert masks["d0"]["w"] is None and kept(masks) == 70


@BOTH
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sparsity": 1.0}, r"sparsity must lie in \[0, 1\), .* got 1.0.*write 0.95"),
        ({"sparsity": float("nan")}, "sparsity must lie in .* got nan"),
        ({"rounds": 0}, "rounds must be at least 1, .* got 0"),
        ({"scope": "leaf"}, "unknown scope 'leaf'; known: global, layer"),
        ({"counting": "floor"}, "unknown counting rule 'floor'; known: ceil, round"),
        ({"sparsity": {"d0": {"w": 0.5}}}, "global ranking takes one sparsity .*scope='layer'"),
        ({"sparsity": {"d0": {"w": 0.5}}, "scope": "layer"}, "another structure"),
        ({"sparsity": None, "scope": "layer"}, "another structure"),
        (
            {"sparsity": {"d0": {"w": 1.5}, "d1": {"w": None}}, "scope": "layer"},
            r"sparsity of 'd0/w' must lie in \[0, 1\)",
        ),
        ({"prunable": {"d0": {"w": False}, "d1": {"w": False}}}, "no parameter is prunable"),
        (
            {
                "prunable": {"d0": {"w": True}, "d1": {"w": False}},
                "sparsity": {"d0": {"w": 0.5}, "d1": {"w": 0.5}},
                "scope": "layer",
            },
            "'d1/w' has a sparsity, 0.5, but is not prunable",
        ),
    ],
)
def test_errors(criterion, changes, text):
    params, prunable = mlp([3, 4, 2])
    with pytest.raises(UserError, match=text):
        run(criterion, **{"params": params, "prunable": prunable, "sparsity": 0.5, **changes})


def test_no_batch():
    params, prunable = mlp([3, 4, 2])
    with pytest.raises(UserError, match="at least one batch .* got none.*pass a list"):
        snip(loss, params, prunable, 0.5, iter([]))


def test_scores_that_are_not_finite_name_their_leaf():
    params = {"good": jnp.ones(2), "bad": jnp.array([1.0, jnp.nan])}
    prunable = {"good": True, "bad": True}

    def separate(params, batch):
        return params["good"].sum() + jnp.square(params["bad"]).sum()

    with pytest.raises(UserError, match="scores of 'bad' must be finite"):
        snip(separate, params, prunable, 0.5, [0])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "`forward` must be positive and finite .*got 0.0.*no path of weights is left"),
        (jnp.nan, "parameters of 'd1/w' must be finite"),
    ],
)
def test_flow_that_never_arrives(value, text):
    params, prunable = mlp([3, 4, 2])
    params["d1"]["w"] = jnp.full((4, 2), value)
    with pytest.raises(UserError, match=text):
        synflow(ones_forward, params, prunable, 0.5)


def test_a_flow_that_is_subtracted():
    params, prunable = mlp([3, 4, 2])
    with pytest.raises(UserError, match="`forward` must be positive and finite .*running means"):
        synflow(lambda params: -ones_forward(params), params, prunable, 0.5)
