"""Small made-up versions of the image sets."""

import shutil

import pytest

from bap_jax import data
from bap_jax.data import synthetic
from tests.data.images import COUNTS


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Name of a data set -> a folder with its files."""
    cache = tmp_path_factory.mktemp("sets")
    return {
        name: synthetic.make_folder(data.DATASETS[name], data.Request(synthetic=count, cache=cache))
        for name, count in COUNTS.items()
    }


@pytest.fixture
def copied(folders, tmp_path):
    """A function from a name to a copy of that folder, which a test may change."""

    def copy(name):
        return shutil.copytree(folders[name], tmp_path / name)

    return copy
