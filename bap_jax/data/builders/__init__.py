"""Builders for tensorflow-datasets that read files which the user has fetched.

Each finds the files, tells what it expects where they are missing, and prepares them as
array_record without TensorFlow. Nothing here asks a network.
"""

from bap_jax.data.builders.celeba import list_celeba as list_celeba
from bap_jax.data.builders.cifar100 import list_cifar100 as list_cifar100
from bap_jax.data.builders.fairface import list_fairface as list_fairface
from bap_jax.data.builders.utkface import list_utkface as list_utkface
