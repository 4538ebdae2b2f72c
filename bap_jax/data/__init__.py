"""From arrays, or files that are read when needed, to splits and batches."""

from bap_jax._deprecated import former_names
from bap_jax.data.batches import epoch_indices as epoch_indices
from bap_jax.data.batches import example as example
from bap_jax.data.batches import feed as feed
from bap_jax.data.batches import gather as gather
from bap_jax.data.batches import is_streamed as is_streamed
from bap_jax.data.batches import nbytes as nbytes
from bap_jax.data.batches import num_batches as num_batches
from bap_jax.data.batches import on_device as on_device
from bap_jax.data.batches import ordered_indices as ordered_indices
from bap_jax.data.batches import read_all as read_all
from bap_jax.data.checks import check_dataset as check_dataset
from bap_jax.data.records import Records as Records
from bap_jax.data.registry import SOURCES as SOURCES
from bap_jax.data.registry import load as load
from bap_jax.data.request import Request as Request
from bap_jax.data.source import PixelScale as PixelScale
from bap_jax.data.source import Source as Source
from bap_jax.data.splits import SPLITS as SPLITS
from bap_jax.data.splits import Splits as Splits
from bap_jax.data.splits import make_splits as make_splits
from bap_jax.data.splits import random_test_indices as random_test_indices
from bap_jax.data.splits import split_indices as split_indices
from bap_jax.data.stream import stream as stream
from bap_jax.data.summary import format_summary as format_summary
from bap_jax.data.summary import summarize as summarize
from bap_jax.data.transforms import AUGMENTATIONS as AUGMENTATIONS
from bap_jax.data.transforms import image_preprocess as image_preprocess
from bap_jax.data.user_data import source_from as source_from
from bap_jax.types import Preprocess as Preprocess

__getattr__ = former_names(
    "bap_jax.data",
    {
        "PARTS": "bap_jax.data.SPLITS",
        "Parts": "bap_jax.data.Splits",
        "make_parts": "bap_jax.data.make_splits",
        "part_indices": "bap_jax.data.split_indices",
    },
)
