"""`pruning.jaxpruner` against the original's results, with its defaults as they are."""

import jax
import numpy as np
import pytest

from bap_jax.errors import UserError
from bap_jax.pruning import jaxpruner
from tests import golden_files
from tests.pruning import golden_jaxpruner as golden


def tree_cases():
    """All cases; in the default tests those whose shapes have other defaults elsewhere."""
    shapes = "nbym", "block"
    for case in golden.tree_cases("mask"):
        is_quick = any(shape in case for shape in shapes)
        yield pytest.param(case, marks=() if is_quick else pytest.mark.slow)


@pytest.mark.parametrize("case", [*tree_cases()])
def test_masks(case):
    updater, params = golden.tree_updater(jaxpruner, case), golden.params_of(case)
    masked, masks = updater.instant_sparsify(params)
    golden.assert_same_leaves(masks, f"{case}/mask")
    golden.assert_same_leaves(masked, f"{case}/masked")


@pytest.mark.parametrize("name", golden.kinds()["rawmask"])
def test_raw_masks_where_their_shape_is_right(name):
    case = name.removesuffix("_rawmask")
    _, masks = golden.tree_updater(jaxpruner, case).instant_sparsify(golden.params_of(case))
    found, raw = golden.by_path(masks), golden.by_path(golden.tree(name))
    right = [path for path, mask in raw.items() if mask.shape == found[path].shape]
    for path in golden_files.some(right, "masks of the right shape"):
        np.testing.assert_array_equal(found[path], raw[path])


@pytest.mark.parametrize("case", golden.error_cases())
def test_errors_are_errors_or_masks_of_the_right_shape(case):
    updater, params = golden.tree_updater(jaxpruner, case), golden.params_of(case)
    if "is not divisible by M" in golden.ERRORS[case]:
        with pytest.raises(UserError, match="is not divisible by M"):
            updater.instant_sparsify(params)
        return
    masked, _ = updater.instant_sparsify(params)
    assert jax.tree.map(np.shape, masked) == jax.tree.map(np.shape, params)


@pytest.mark.parametrize("tag", golden.schedule_tags())
def test_schedules(tag):
    stored, schedule = golden.tree(f"schedule/{tag}"), golden.schedule(jaxpruner, tag)
    target = golden.target(tag, golden.TRAIN_SPARSITY)
    for i, step in enumerate(map(int, stored["step"])):
        assert bool(schedule.is_mask_update_iter(step)) == bool(stored["is_update"][i])
        found = schedule.get_sparsity_at_step(target, step)
        np.testing.assert_allclose(found, stored["sparsity_eager"][i], rtol=0, atol=2e-7)


@pytest.mark.parametrize("case", golden.train_cases())
def test_trainings(case):
    golden.assert_trains_alike(golden.train_updater(jaxpruner, case), case)
