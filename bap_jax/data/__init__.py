"""Data: from arrays, or files that are read when needed, to splits and batches.

`load` finds a data set by name, `register_dataset` adds your own, `make_splits` divides samples,
and `feed` hands batches to a compiled step.
"""

from bap_jax._deprecated import former_names
from bap_jax.data.augment import Augment
from bap_jax.data.batches import (
    epoch_indices,
    example,
    feed,
    gather,
    is_streamed,
    nbytes,
    num_batches,
    on_device,
    ordered_indices,
    read_all,
)
from bap_jax.data.checks import check_dataset
from bap_jax.data.datasets import DATASETS
from bap_jax.data.listing import Listing
from bap_jax.data.records import Records
from bap_jax.data.registry import load, register_dataset
from bap_jax.data.request import Request
from bap_jax.data.source import PixelScale, Source
from bap_jax.data.spec import DatasetSpec, MadeUpImages
from bap_jax.data.splits import (
    SPLITS,
    Splits,
    make_splits,
    random_test_indices,
    split_indices,
)
from bap_jax.data.stream import stream
from bap_jax.data.summary import format_summary, summarize
from bap_jax.data.transforms import AUGMENTATIONS, image_preprocess
from bap_jax.data.user_data import source_from
from bap_jax.types import Preprocess

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "SPLITS",
    "Augment",
    "DatasetSpec",
    "Listing",
    "MadeUpImages",
    "PixelScale",
    "Preprocess",
    "Records",
    "Request",
    "Source",
    "Splits",
    "check_dataset",
    "epoch_indices",
    "example",
    "feed",
    "format_summary",
    "gather",
    "image_preprocess",
    "is_streamed",
    "load",
    "make_splits",
    "nbytes",
    "num_batches",
    "on_device",
    "ordered_indices",
    "random_test_indices",
    "read_all",
    "register_dataset",
    "source_from",
    "split_indices",
    "stream",
    "summarize",
]

__getattr__ = former_names(
    "bap_jax.data",
    {
        "PARTS": "bap_jax.data.SPLITS",
        "Parts": "bap_jax.data.Splits",
        "SOURCES": "bap_jax.data.DATASETS",
        "make_parts": "bap_jax.data.make_splits",
        "part_indices": "bap_jax.data.split_indices",
    },
)
