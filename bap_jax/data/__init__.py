"""From arrays, or files that are read when needed, to parts and batches."""

from bap_jax.data.batches import epoch_indices as epoch_indices
from bap_jax.data.batches import example as example
from bap_jax.data.batches import feed as feed
from bap_jax.data.batches import fits as fits
from bap_jax.data.batches import gather as gather
from bap_jax.data.batches import is_streamed as is_streamed
from bap_jax.data.batches import nbytes as nbytes
from bap_jax.data.batches import num_batches as num_batches
from bap_jax.data.batches import on_device as on_device
from bap_jax.data.batches import ordered_indices as ordered_indices
from bap_jax.data.batches import read_all as read_all
from bap_jax.data.checks import check_dataset as check_dataset
from bap_jax.data.parts import PARTS as PARTS
from bap_jax.data.parts import Parts as Parts
from bap_jax.data.parts import make_parts as make_parts
from bap_jax.data.parts import random_test_indices as random_test_indices
from bap_jax.data.records import Records as Records
from bap_jax.data.registry import load as load
from bap_jax.data.source import Source as Source
from bap_jax.data.stream import stream as stream
from bap_jax.data.transforms import AUGMENTATIONS as AUGMENTATIONS
from bap_jax.data.transforms import image_preprocess as image_preprocess
from bap_jax.types import Preprocess as Preprocess
