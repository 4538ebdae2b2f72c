"""FairGRAPE: importances, the greedy selection by hand, shares, counts and rounds."""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax.errors import UserError
from bap_jax.kernel_uses import KernelAxes
from bap_jax.metrics import weighted_mean
from bap_jax.pruning.counting import kept_count
from bap_jax.pruning.fairgrape import fairgrape, group_importance, select_fair, squared_terms

# Group 1 has 2 of 28, and none of it in the weights that matter to group 0.
BY_HAND = np.array([[8, 7, 6, 5, 0, 0], [0, 0, 0, 0, 1, 1]], np.float32)


def shares(importance, mask=None):
    total = importance[:, np.flatnonzero(mask)] if mask is not None else importance
    return total.sum(1, dtype=np.float64) / total.sum(dtype=np.float64)


def top(importance, kept):
    """Ranking by one score, ties by index."""
    mask = np.zeros(importance.size, np.uint8)
    mask[np.argsort(-importance, kind="stable")[:kept]] = 1
    return mask


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (0, [0, 0, 0, 0, 0, 0]),
        (1, [1, 0, 0, 0, 0, 0]),  # group 0 has the larger target, 26/28
        (2, [1, 0, 0, 0, 1, 0]),  # group 1 lags by 2/28, group 0 leads by it
        (3, [1, 1, 0, 0, 1, 0]),  # group 0 holds 8/9 < 26/28
        (4, [1, 1, 0, 0, 1, 1]),  # group 1 holds 1/16 < 2/28
        (5, [1, 1, 1, 0, 1, 1]),
        (6, [1, 1, 1, 1, 1, 1]),
    ],
)
def test_selection_by_hand(kept, expected):
    np.testing.assert_array_equal(select_fair(BY_HAND, kept), expected)


def test_stacked_layers_are_pruned_each_by_itself():
    rng = np.random.default_rng(0)
    layers = jnp.asarray(rng.normal(size=(3, 4, 5)), jnp.float32)
    layers *= jnp.asarray([10.0, 1.0, 0.1])[:, None, None]
    target = jnp.asarray(rng.normal(size=(2, 3, 4, 5)), jnp.float32)
    axes = {"w": KernelAxes((1,), (2,), (0,))}

    def stacked_loss(params, batch, group):
        return (params["w"] * batch * target[group]).sum()

    def layer_loss(params, batch, group):
        return sum((params[f"w{i}"] * batch * target[group, i]).sum() for i in range(3))

    together = fairgrape(
        stacked_loss, {"w": layers}, {"w": True}, 0.6, [1.0], 2, rounds=2, kernel_axes=axes
    )
    parts = {f"w{i}": layer for i, layer in enumerate(layers)}
    apart = fairgrape(layer_loss, parts, dict.fromkeys(parts, True), 0.6, [1.0], 2, rounds=2)
    np.testing.assert_array_equal(together["w"], np.stack([apart[name] for name in parts]))
    assert np.asarray(together["w"]).sum((1, 2)).tolist() == [8] * 3


def test_a_small_group_keeps_its_share_where_the_sum_loses_it():
    np.testing.assert_array_equal(top(BY_HAND.sum(0), 4), [1, 1, 1, 1, 0, 0])
    rng = np.random.default_rng(0)
    importance = rng.lognormal(size=(3, 3000)).astype(np.float32)
    importance[2] *= 0.05
    importance[2, 1000:] = 0
    importance[:2, :1000] *= 1e-3
    fair, plain = select_fair(importance, 300), top(importance.sum(0), 300)
    assert fair.sum() == plain.sum() == 300
    assert shares(importance, plain)[2] < 0.2 * shares(importance)[2]
    np.testing.assert_allclose(shares(importance, fair), shares(importance), atol=2e-3)


def slowly(importance, kept):
    """The definition, without sorted orders."""
    mask, groups = np.zeros(importance.shape[1], np.uint8), importance.astype(np.float64)
    target = shares(groups)
    for _ in range(kept):
        have = groups[:, mask == 1].sum(1)
        lag = target - have / have.sum() if have.sum() else target
        open_groups = np.where(mask == 0, groups, 0).max(1) > 0
        if not open_groups.any():
            mask[np.flatnonzero(mask == 0)[0]] = 1
            continue
        group = np.where(open_groups, lag, -np.inf).argmax()
        mask[np.where(mask == 0, groups[group], -1).argmax()] = 1
    return mask


@pytest.mark.parametrize("seed", range(6))
def test_orders_and_pointers_change_nothing(seed):
    rng = np.random.default_rng(seed)
    importance = rng.integers(0, 5, (4, 40)).astype(np.float32) ** 3  # ties and zeros
    importance[:, 30:] = 0
    for kept in range(41):
        np.testing.assert_array_equal(select_fair(importance, kept), slowly(importance, kept))


def test_one_group_is_a_ranking_with_ties_to_the_lower_index():
    importance = np.random.default_rng(0).integers(0, 6, 50).astype(np.float32)
    for kept in range(51):
        np.testing.assert_array_equal(select_fair(importance[None], kept), top(importance, kept))


def test_a_group_without_importance_is_passed_over():
    with_zero = np.insert(BY_HAND, [0, 1], 0, axis=0)
    for kept in range(7):
        np.testing.assert_array_equal(select_fair(with_zero, kept), select_fair(BY_HAND, kept))
    np.testing.assert_array_equal(select_fair(np.zeros((3, 5)), 2), [1, 1, 0, 0, 0])


@pytest.mark.parametrize(
    ("importance", "kept", "text"),
    [
        (np.ones(4), 1, r"shape \(group, n\); got \(4,\)"),
        (np.ones((0, 4)), 1, r"shape \(group, n\); got \(0, 4\)"),
        (np.ones((2, 4)), 5, "kept must lie in 0 to 4 weights; got 5"),
        (np.ones((2, 4)), -1, "kept must lie in 0 to 4 weights; got -1"),
        (np.array([[1, np.nan]]), 1, "finite and not negative"),
        (np.array([[1, np.inf]]), 1, "finite and not negative"),
        (np.array([[1, -1]]), 1, "finite and not negative.*absolute values"),
    ],
)
def test_selection_errors(importance, kept, text):
    with pytest.raises(UserError, match=text):
        select_fair(importance, kept)


def network(seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {
        "first": {"w": jax.random.normal(keys[0], (6, 12)), "b": jnp.zeros(12)},
        "last": {"w": jax.random.normal(keys[1], (12, 3)), "b": jnp.zeros(3)},
    }
    return params, jax.tree.map(lambda leaf: leaf.ndim == 2, params)


def samples(count=3):
    """Batches of inputs, targets and groups 0, 1 and 3; group 2 has no sample."""
    rng = np.random.default_rng(1)
    return [
        (
            jnp.asarray(rng.normal(size=(20, 6)), jnp.float32),
            jnp.asarray(rng.normal(size=(20, 3)), jnp.float32),
            jnp.asarray(rng.choice([0, 1, 3], 20, p=[0.7, 0.2, 0.1])),
        )
        for _ in range(count)
    ]


def loss(params, batch, group):
    inputs, targets, ids = batch
    hidden = jnp.tanh(inputs @ params["first"]["w"] + params["first"]["b"][None])
    outputs = hidden @ params["last"]["w"] + params["last"]["b"][None]
    errors = jnp.square(outputs - targets).sum(-1)
    return weighted_mean(errors, (ids == group).astype(jnp.float32))


def importance_of(loss, params, batches, num_groups):
    squares = squared_terms(lambda weights, fixed, *rest: loss(weights, *rest))
    return group_importance(squares, params, None, batches, num_groups)


def test_importance_by_hand():
    # ℓ_g = x_g · w: the squared term is (w x_g)², summed over two batches.
    batches = [jnp.array([[1.0, 2.0], [0.0, 3.0]]), jnp.array([[-1.0, 0.0], [1.0, 1.0]])]
    found = importance_of(lambda w, x, group: x[group] @ w, jnp.array([2.0, -1.0]), batches, 2)
    np.testing.assert_allclose(found, [[4 + 4, 4], [4, 9 + 1]])


def test_importance_by_finite_differences():
    params, batches = network()[0], samples()
    found = importance_of(loss, params, batches, 4)
    step, value = 1e-4, jax.jit(loss)
    with jax.enable_x64(True):
        wide, wide_batches = jax.tree.map(lambda x: x.astype(jnp.float64), (params, batches))
        for path, index in [("first", (2, 5)), ("last", (7, 1))]:
            weight = wide[path]["w"]

            def at(value, path=path, index=index, weight=weight):
                moved = weight.at[index].set(value)
                return {**wide, path: {**wide[path], "w": moved}}

            up, down = at(weight[index] + step), at(weight[index] - step)
            for group in range(4):
                slopes = [
                    float(value(up, b, group) - value(down, b, group)) / (2 * step)
                    for b in wide_batches
                ]
                expected = sum((float(weight[index]) * slope) ** 2 for slope in slopes)
                np.testing.assert_allclose(found[path]["w"][group][index], expected, rtol=1e-4)


def test_importance_has_the_shapes_promised_and_zeros_for_an_absent_group():
    params, _ = network()
    found = importance_of(loss, params, samples(1), 4)
    for leaf, value in zip(jax.tree.leaves(params), jax.tree.leaves(found), strict=True):
        assert value.shape == (4, *leaf.shape) and value.dtype == np.float32
        assert not value[2].any()
    assert found["first"]["w"][[0, 1, 3]].any((1, 2)).all()


@pytest.mark.parametrize(("rounds", "counting"), [(1, "ceil"), (1, "round"), (5, "ceil")])
def test_counts_are_exact(rounds, counting):
    params, prunable = network()
    settings = {"rounds": rounds, "counting": counting}
    masks = fairgrape(loss, params, prunable, 0.77, samples(), 4, **settings)
    for layer in masks.values():
        assert layer["b"] is None and layer["w"].dtype == jnp.uint8
        assert int(layer["w"].sum()) == kept_count(counting, 0.77, layer["w"].size)


def test_one_round_selects_among_the_importances_of_each_leaf():
    params, prunable = network()
    importance = importance_of(loss, params, samples(), 4)
    masks = fairgrape(loss, params, prunable, 0.8, samples(), 4)
    for name, layer in masks.items():
        flat = importance[name]["w"].reshape(4, -1)
        expected = select_fair(flat, kept_count("ceil", 0.8, flat.shape[1]))
        np.testing.assert_array_equal(layer["w"].ravel(), expected)


def test_rounds_look_at_the_masked_network_and_nothing_grows_back(monkeypatch):
    params, prunable = network()
    module = sys.modules[fairgrape.__module__]  # the package may have the function by that name
    seen, original = [], module.masked
    monkeypatch.setattr(module, "masked", lambda *a: seen.append(a[1]) or original(*a))
    final = fairgrape(loss, params, prunable, 0.9, samples(), 4, rounds=6)
    history = [*seen, [final["first"]["w"], final["last"]["w"]]]
    assert len(history) == 7
    for before, after in itertools.pairwise(history):
        for old, new in zip(before, after, strict=True):
            assert (np.asarray(new) <= old).all() and (np.asarray(new) != old).any()


def test_weights_without_importance_do_not_bring_back_pruned_ones():
    # All importance lies in the last weight; later rounds fill up among what is left.
    params, batches = {"w": jnp.ones(8)}, [jnp.zeros(8).at[7].set(1)]
    masks = fairgrape(lambda p, x, g: p["w"] @ x, params, {"w": True}, 0.5, batches, 1, rounds=4)
    np.testing.assert_array_equal(masks["w"], [1, 1, 1, 0, 0, 0, 0, 1])


def test_a_sparsity_for_each_leaf():
    params, prunable = network()
    sparsity = {"first": {"w": 0.5, "b": None}, "last": {"w": None, "b": None}}
    masks = fairgrape(loss, params, prunable, sparsity, samples(), 4)
    assert int(masks["first"]["w"].sum()) == 36 and masks["last"]["w"].all()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sparsity": 1.0}, r"sparsity must lie in \[0, 1\), .* got 1.0"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"counting": "floor"}, "unknown counting rule 'floor'"),
        ({"batches": []}, "at least one batch"),
        ({"num_groups": 0}, "num_groups must be at least 1; got 0"),
        ({"loss": lambda *a: jnp.nan * loss(*a)}, "scores of 'first/w' must be finite"),
    ],
)
def test_errors(changes, text):
    params, prunable = network()
    settings = {"loss": loss, "params": params, "prunable": prunable, "sparsity": 0.5}
    settings |= {"batches": samples(1), "num_groups": 2}
    with pytest.raises(UserError, match=text):
        fairgrape(**{**settings, **changes})
