"""Arrays on disk: whole, damaged, and of something else."""

import numpy as np
import pytest

from bap_jax import checkpoint
from bap_jax.errors import UserError

TREE = {"w": np.arange(6.0, dtype=np.float32), "mask": None}


def test_checkpoints_come_back(tmp_path):
    assert not checkpoint.exists(tmp_path / "c")
    checkpoint.save(tmp_path / "c", TREE)
    assert checkpoint.exists(tmp_path / "c")
    np.testing.assert_array_equal(checkpoint.restore(tmp_path / "c", TREE)["w"], TREE["w"])


def test_there_is_nothing(tmp_path):
    with pytest.raises(checkpoint.DamagedCheckpointError, match="cannot read"):
        checkpoint.restore(tmp_path / "nothing", TREE)


@pytest.mark.parametrize(
    ("like", "text"),
    [
        (
            {"w": np.zeros(6, np.float16)},
            r"match this network: w is float32\[6\] in the checkpoint and float16\[6\] in this",
        ),
        (
            {"w": np.zeros((2, 3), np.float32)},
            r"w is float32\[6\] in the checkpoint and float32\[2, 3\] in this network",
        ),
        (
            {f"v{i}": np.zeros(i, np.float32) for i in range(4)},
            r"v0 is missing in the checkpoint and float32\[0\] in this network, v1 .*, v2 .*"
            r" and 2 more\.$",
        ),
    ],
)
def test_the_first_differing_arrays_are_shown(like, text, tmp_path):
    checkpoint.save(tmp_path / "c", TREE)
    with pytest.raises(UserError, match=text):
        checkpoint.restore(tmp_path / "c", {"mask": None, **like})


def test_checkpoints_without_a_list_of_arrays_are_read(tmp_path):
    """As earlier releases wrote them."""
    checkpoint.save(tmp_path / "c", TREE)
    digest = tmp_path / "c" / "digest.json"
    digest.write_text(digest.read_text().partition(', "arrays"')[0] + "}")
    assert "arrays" not in digest.read_text()
    np.testing.assert_array_equal(checkpoint.restore(tmp_path / "c", TREE)["w"], TREE["w"])
