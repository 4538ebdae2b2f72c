"""Builders for tensorflow-datasets that read files which the user has downloaded.

Each `list_*` function finds the files of a data set, or says which ones it expects. `tfds` prepares
them as array_record without TensorFlow. Nothing here uses the network.
"""

from bap_jax.data.builders.celeba import list_celeba
from bap_jax.data.builders.cifar100 import list_cifar100
from bap_jax.data.builders.fairface import list_fairface
from bap_jax.data.builders.utkface import list_utkface

__all__ = ["list_celeba", "list_cifar100", "list_fairface", "list_utkface"]
