"""The benchmarks can be imported, and a small dense network is laid out once."""

import pytest

from bap_jax import pipeline
from tests.paper_run.modules import BENCHMARKS


@pytest.fixture(scope="package", autouse=True)
def on_path():
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(BENCHMARKS))
        yield


@pytest.fixture(scope="session")
def context(small_dense, digits_splits):
    return pipeline.make_context(*small_dense, digits_splits)
