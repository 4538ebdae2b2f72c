"""Our updaters against jaxpruner's results: every case that the golden file holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import pruning
from bap_jax.errors import UserError
from bap_jax.pruning.counting import kept_count
from tests import golden_files
from tests.pruning import golden_jaxpruner as golden

# Names of all arrays, and entries of the manifest, as `golden_files.unknown` takes them.
ARRAY_KINDS = (
    (r"trees/[^/]+/params/.+", None),
    (r"trees/[^/]+/[^/]+/(mask|masked|target|packed_mask|summarize_sparsity)/.+", None),
    (r"trees/[^/]+/[^/]+_rawmask/.+", None),
    (r"rounding/(n|sparsity|kept_eager|kept_jit)", None),
    (r"schedule/[^/]+/(step|is_update|sparsity_eager|sparsity_jit)", None),
    (r"train/(x|y|init/.+)", None),
    (r"train/[^/]+/step\d+/((params|masks|momentum)/.+|count)", None),
    (r"train/[^/]+/(loss_before_step|kept_after_step|relative_margin_at_update)", None),
)
ENTRY_KINDS = (
    (r"cases|none_masks|errors|train", None),
    (r"flax|jax|jaxpruner_commit|numpy|optax|python|tree_map_shim", None),  # how it was made
)


def test_the_default_folder_holds_cases_of_every_kind():
    if golden_files.FOLDER != golden_files.DEFAULT_FOLDER:
        pytest.skip("another folder may hold any of them")
    for kind, found in golden.kinds().items():
        assert found, f"no case of {kind} in jaxpruner.npz"


def test_every_array_and_every_entry_of_the_manifest_is_of_a_known_kind():
    assert golden_files.unknown(golden.ARRAYS, ARRAY_KINDS) == []
    assert golden_files.unknown(golden.MANIFEST, ENTRY_KINDS) == []


@pytest.mark.parametrize(
    ("name", "unknown"),
    [
        ("magnitude_uniform_0.5_decay3", "decay3"),
        ("trees/odd/saliency_uniform_0.5", "saliency"),
        ("poly_start2_end14_freq2_start5", "start5"),
        ("block_4_4_4_avg_0.5", "4"),
    ],
)
def test_a_part_of_a_name_that_no_pattern_matches_fails_by_itself(name, unknown):
    with pytest.raises(AssertionError, match=f"{name}: unknown setting `{unknown}`"):
        golden.read(name)


def test_names_may_hold_words_that_set_nothing():
    found = golden.read("schedule/poly_misaligned_start0_end13_freq5_target0.9")
    assert found == {"target": ("0.9", None), "start": ("0",), "end": ("13",), "freq": ("5",)}


def test_an_optimiser_is_read_with_all_its_options():
    params, grads = jnp.ones(2), jnp.array([1.0, -2.0])
    found = golden.optimizer("optax.sgd(0.1, momentum=0.9, nesterov=True)")
    updates, _ = found.update(grads, found.init(params))
    np.testing.assert_allclose(updates, -0.1 * 1.9 * grads, rtol=1e-6)
    for text in ("optax.no_such(0.1)", "torch.sgd(0.1)", "0.1"):
        with pytest.raises(AssertionError, match=f"unknown optimizer `{text[:5]}"):
            golden.optimizer(text)


@pytest.mark.parametrize("case", golden.tree_cases("mask"))
def test_masks_masked_weights_and_targets(case):
    updater, params = golden.tree_updater(pruning, case), golden.params_of(case)
    masked, masks = updater.instant_sparsify(params)
    golden.assert_same_leaves(masks, f"{case}/mask")
    golden.assert_same_leaves(masked, f"{case}/masked")
    targets = golden.by_path(updater.sparsity_distribution_fn(params))
    for path, want in golden.by_path(golden.tree(f"{case}/target")).items():
        np.testing.assert_allclose(targets[path], want, rtol=1e-12)


@pytest.mark.parametrize("case", golden.tree_cases("packed_mask"))
def test_packed_masks(case):
    params = golden.params_of(case)
    _, plain = golden.tree_updater(pruning, case).instant_sparsify(params)
    updater = golden.tree_updater(pruning, case, use_packed_masks=True)
    _, packed = updater.instant_sparsify(params)
    golden.assert_same_leaves(packed, f"{case}/packed_mask")
    golden.assert_same_leaves(jax.tree.map(jnp.packbits, plain), f"{case}/packed_mask")


@pytest.mark.parametrize("case", golden.tree_cases("summarize_sparsity"))
def test_summaries(case):
    masked, _ = golden.tree_updater(pruning, case).instant_sparsify(golden.params_of(case))
    found = pruning.summarize_sparsity(masked)
    want = golden.tree(f"{case}/summarize_sparsity")
    assert {key.replace("/", ".") for key in found} == set(want)
    for key, value in found.items():
        np.testing.assert_allclose(value, want[key.replace("/", ".")], rtol=0, atol=1e-7)


@pytest.mark.parametrize("case", golden.error_cases())
def test_errors_are_told_or_are_none(case):
    updater, params = golden.tree_updater(pruning, case), golden.params_of(case)
    if not isinstance(updater.sparsity_type, pruning.sparsity_types.Block):
        reason = "is not divisible by M"
        with pytest.raises(UserError, match=reason if reason in golden.ERRORS[case] else ""):
            updater.instant_sparsify(params)
        return
    # jaxpruner's masks of incomplete blocks have a wrong shape; ours are no error.
    masked, masks = updater.instant_sparsify(params)
    paths = golden.by_path(params)
    for path, mask in golden.by_path(masks).items():
        assert mask is None or mask.shape == paths[path].shape
        assert mask is None or 0 < int(mask.sum()) <= mask.size
    assert jax.tree.map(jnp.shape, masked) == jax.tree.map(jnp.shape, params)


@pytest.mark.parametrize("name", golden.kinds()["rawmask"])
def test_raw_masks_are_ours_where_their_shape_is_right(name):
    case = name.removesuffix("_rawmask")
    _, masks = golden.tree_updater(pruning, case).instant_sparsify(golden.params_of(case))
    found, raw = golden.by_path(masks), golden.by_path(golden.tree(name))
    right = [path for path, mask in raw.items() if mask.shape == found[path].shape]
    for path in golden_files.some(right, "masks of the right shape"):
        np.testing.assert_array_equal(found[path], raw[path])


@pytest.mark.parametrize("folder", golden.kinds()["rounding"])
def test_kept_counts(folder):
    stored = golden.tree(folder)
    sizes = [int(size) for size in stored["n"]]
    traced = jax.jit(lambda sparsity: [kept_count("round", sparsity, size) for size in sizes])
    for column, sparsity in enumerate(map(float, stored["sparsity"])):
        eager = [kept_count("round", sparsity, size) for size in sizes]
        np.testing.assert_array_equal(eager, stored["kept_eager"][:, column])
        np.testing.assert_array_equal(traced(sparsity), stored["kept_jit"][:, column])


@pytest.mark.parametrize("tag", golden.schedule_tags())
def test_schedules(tag):
    stored, schedule = golden.tree(f"schedule/{tag}"), golden.schedule(pruning, tag)
    target = golden.target(tag, golden.TRAIN_SPARSITY)
    due, sparsity = jax.jit(schedule.is_mask_update_iter), jax.jit(schedule.get_sparsity_at_step)
    for i, step in enumerate(map(int, stored["step"])):
        assert bool(schedule.is_mask_update_iter(step)) == bool(stored["is_update"][i])
        assert bool(due(step)) == bool(stored["is_update"][i])
        eager, jitted = schedule.get_sparsity_at_step(target, step), sparsity(target, step)
        np.testing.assert_allclose(eager, stored["sparsity_eager"][i], rtol=0, atol=2e-7)
        np.testing.assert_allclose(jitted, stored["sparsity_jit"][i], rtol=0, atol=2e-7)


@pytest.mark.parametrize("case", golden.train_cases())
def test_trainings(case):
    golden.assert_trains_alike(golden.train_updater(pruning, case), case)
