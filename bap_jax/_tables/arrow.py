"""pyarrow without pandas, which it would load to make scalars, or arrays of Python or NumPy.

`pa.scalar`, `pa.array`, `Array.to_numpy` and functions of `compute` with a Python value look for
pandas, and importing that takes longer than everything else in the command.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

# Its functions are made when it is imported; type checkers do not know them.
compute: Any = pyarrow.compute


def to_numpy(array: Any) -> np.ndarray:
    """Numbers or booleans as a NumPy array, not to be written to.

    Args:
      array: `(sample,)` without nulls.
    """
    if pa.types.is_boolean(array.type):
        return np.from_dlpack(array.cast(pa.uint8())).view(bool)
    return np.from_dlpack(array)


def rows(mask: Any) -> np.ndarray:
    """The rows where a boolean array is true."""
    return np.flatnonzero(to_numpy(mask))


def texts(values: Sequence[str]) -> pa.Array:
    """Texts as an array of pyarrow."""
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.large_string(), len(encoded), buffers)
