"""Which entries are the largest: against numpy's stable sort, at every edge."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bap_jax import pruning
from bap_jax.errors import UserError
from bap_jax.pruning import mask_calculator
from bap_jax.pruning.selection import keep_largest, keep_largest_jointly

ROW = 4096  # how tensors are padded
SIZES = (ROW, ROW + 1)
SHAPES = ((100,), (60, 70), (1,))
seeds = st.integers(0, 2**32 - 1)
parts = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))
examples = settings(max_examples=60, deadline=None, derandomize=True)


def any_floats(rng, size):
    """Floats of random bits: every exponent, both infinities; neither NaN nor subnormal."""
    found = rng.integers(0, 2**32, size, dtype=np.uint64).astype(np.uint32).view(np.float32)
    tiny = np.finfo(np.float32).tiny
    return np.where(np.isnan(found) | (np.abs(found) < tiny), np.float32(np.inf), found)


SAMPLERS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "magnitudes": lambda rng, size: np.abs(rng.normal(size=size)),
    "grid": lambda rng, size: rng.integers(-3, 4, size) * 0.25,
    "zeros": lambda rng, size: np.zeros(size),
    "signed zeros": lambda rng, size: np.where(rng.random(size) < 0.5, -0.0, 0.0),
    "mostly zero": lambda rng, size: rng.normal(size=size) * (rng.random(size) < 0.1),
    "infinities": lambda rng, size: rng.choice([-np.inf, -1.0, 0.0, 2.0, np.inf], size),
    "heavy tails": lambda rng, size: rng.standard_cauchy(size) ** 5,
    "any": any_floats,
}
samplers = st.sampled_from(sorted(SAMPLERS))


def draw(kind, seed, size):
    return SAMPLERS[kind](np.random.default_rng(seed), size).astype(np.float32)


def stable_mask(values, kept):
    """The definition: sorted from the largest, equal ones in their order, the first stay."""
    values = np.asarray(values, np.float64).ravel()
    mask = np.zeros(values.size, np.uint8)
    mask[np.argsort(-values, kind="stable")[:kept]] = 1
    return mask


def check(scores, kept):
    (mask,) = keep_largest([jnp.asarray(scores)], [kept])
    assert mask.dtype == jnp.uint8
    np.testing.assert_array_equal(np.ravel(mask), stable_mask(scores, kept))


@examples
@given(st.sampled_from(SIZES), samplers, seeds, parts)
def test_masks_are_those_of_a_stable_sort(size, kind, seed, part):
    check(draw(kind, seed, size), round(part * size))


@examples
@given(samplers, seeds, st.lists(parts, min_size=3, max_size=3))
def test_tensors_given_together_are_ranked_each_by_itself(kind, seed, portions):
    scores = [draw(kind, seed + i, shape) for i, shape in enumerate(SHAPES)]
    kept = [round(part * score.size) for part, score in zip(portions, scores, strict=True)]
    for mask, score, k in zip(keep_largest(scores, kept), scores, kept, strict=True):
        assert mask.shape == score.shape
        np.testing.assert_array_equal(np.ravel(mask), stable_mask(score, k))


@examples
@given(samplers, seeds, parts)
def test_a_joint_ranking_is_that_of_all_entries_in_a_row(kind, seed, part):
    scores = [draw(kind, seed + i, shape) for i, shape in enumerate(SHAPES)]
    whole = np.concatenate([score.ravel() for score in scores])
    kept = round(part * whole.size)
    masks = keep_largest_jointly(scores, kept)
    assert [mask.shape for mask in masks] == list(SHAPES)
    found = np.concatenate([np.ravel(mask) for mask in masks])
    np.testing.assert_array_equal(found, stable_mask(whole, kept))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
def test_narrow_floats_are_ranked_as_they_are(dtype):
    scores = jnp.asarray(draw("normal", 0, ROW), dtype)
    assert len(np.unique(np.asarray(scores, np.float32))) < ROW
    for kept in (0, 1, 77, 2048, ROW):
        check(scores, kept)


@pytest.mark.slow
def test_double_precision_is_not_rounded():
    with jax.enable_x64(True):
        scores = jnp.asarray(1 + np.random.default_rng(0).permutation(100) * 1e-12)
        assert scores.dtype == jnp.float64
        for kept in (1, 50, 99):
            check(scores, kept)


def test_of_equal_scores_the_first_stay_whatever_the_sign_of_zero():
    scores = np.full(100, np.float32(-3))
    scores[:7] = [-0.0, 2.0, 0.0, 2.0, -0.0, -1.0, 2.0]
    (mask,) = keep_largest([scores], [2])
    np.testing.assert_array_equal(mask[:7], [0, 1, 0, 1, 0, 0, 0])
    (mask,) = keep_largest([scores], [5])
    np.testing.assert_array_equal(mask[:7], [1, 1, 1, 1, 0, 0, 1])
    assert not mask[7:].any()


def test_numbers_out_of_range_keep_nothing_or_all():
    scores = draw("normal", 0, 100)
    few, many = (keep_largest([scores], [kept])[0] for kept in (-3, 1000))
    assert (int(few.sum()), int(many.sum())) == (0, 100)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_scalar_is_one_entry(kept):
    (mask,) = keep_largest([jnp.float32(-3)], [kept])
    assert (mask.shape, int(mask)) == ((), kept)


def test_empty_tensors_have_empty_masks():
    empty, scores = jnp.zeros((0, 3)), draw("normal", 1, 100)
    assert keep_largest([], []) == keep_largest_jointly([], 3) == []
    assert [mask.shape for mask in keep_largest([empty], [0])] == [(0, 3)]
    assert [mask.shape for mask in keep_largest_jointly([empty], 4)] == [(0, 3)]
    masks = keep_largest([empty, scores, empty], [0, 7, 2])
    assert [mask.shape for mask in masks] == [(0, 3), (100,), (0, 3)]
    np.testing.assert_array_equal(masks[1], stable_mask(scores, 7))


@pytest.mark.parametrize("sparsity_type", ["unstructured", "nm_1,2", "block_2,2", "channel"])
def test_every_sparsity_type_takes_an_empty_tensor(sparsity_type):
    updater = pruning.create_updater_from_config(
        {"algorithm": "magnitude", "sparsity": 0.5, "sparsity_type": sparsity_type}
    )
    _, mask = updater.instant_sparsify(jnp.zeros((0, 4)))
    assert mask.shape == (0, 4)


def test_nan_is_found_before_anything_is_ranked():
    updater = pruning.create_updater_from_config({"algorithm": "magnitude", "sparsity": 0.5})
    params = {"good": jnp.ones((2, 2)), "bad": {"kernel": jnp.array([[1.0, jnp.nan]])}}
    with pytest.raises(UserError, match="scores of bad/kernel hold NaN.*before pruning"):
        updater.instant_sparsify(params)
    with pytest.raises(UserError, match="scores of the array hold NaN"):
        updater.instant_sparsify(params["bad"]["kernel"])
    unpruned = {"bias": jnp.array([jnp.nan]), "kernel": jnp.ones((2, 2))}
    assert updater.instant_sparsify(unpruned)[1]["bias"] is None


def test_nan_under_jit_ranks_highest_and_counts_stay_exact():
    scores = draw("infinities", 0, 100)
    scores[[3, 50]] = np.nan, -np.nan
    for kept in (1, 2, 40):
        (mask,) = keep_largest([scores], [kept])
        assert int(mask.sum()) == kept
        assert mask[3] == 1 and mask[50] == (kept > 1)


def test_a_traced_sparsity_compiles_once():
    scores = draw("normal", 2, 100)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def masked(sparsity):
        return mask_calculator.topk_mask_calculator(scores, sparsity)

    for sparsity in (0.0, 0.25, 0.9):
        expected = stable_mask(scores, round(100 * (1 - sparsity)))
        np.testing.assert_array_equal(masked(sparsity), expected)


def test_over_a_batch_masks_are_those_of_a_loop():
    scores, kept = draw("grid", 0, (5, 100)), jnp.array([0, 1, 50, 99, 100])
    batch = jax.vmap(lambda row, k: keep_largest([row], [k])[0])(scores, kept)
    for mask, row, k in zip(batch, scores, kept, strict=True):
        np.testing.assert_array_equal(mask, stable_mask(row, k))


@pytest.mark.slow
def test_without_jit_masks_are_the_same():
    with jax.disable_jit():
        check(draw("grid", 0, 100), 50)
        check(draw("normal", 0, 100), 7)


@pytest.mark.parametrize("spec", [(None, "devices")])
def test_eight_devices_give_the_masks_of_one(spec):
    scores = draw("grid", 3, (16, 264))
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("devices",))
    assert mesh.size == 8
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
    (mask,) = keep_largest([jax.device_put(scores, sharding)], [1000])
    np.testing.assert_array_equal(np.ravel(mask), stable_mask(scores, 1000))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "grid", "mostly zero"])
def test_ten_million_entries(kind):
    scores = draw(kind, 0, 10_000_000)
    for kept in (0, 1, 500_000, 5_000_001, 9_999_999):
        check(scores, kept)
