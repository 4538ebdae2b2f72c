"""What every reader of the command gives: right or wrong for each sample, and its groups."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Samples(NamedTuple):
    """Two models judged on the same samples.

    Attributes:
      dense_correct: `(sample,)` bool, whether the dense model is right.
      sparse_correct: `(sample,)` bool, whether the compressed model is right.
      groups: for each attribute `(sample,)` texts, None for samples without a value.
      source: a line that says what was read, for people.
      files: SHA-256, in hex, of each file that was read, by its path as it was given.
      warnings: what a reader should know although the files can be used.
    """

    dense_correct: np.ndarray
    sparse_correct: np.ndarray
    groups: Mapping[str, np.ndarray]
    source: str
    files: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
