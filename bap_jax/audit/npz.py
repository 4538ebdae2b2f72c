"""Files of several arrays, as `numpy.savez` writes them."""

import zipfile
from pathlib import Path

import numpy as np

from bap_jax.errors import UserError


def load_npz(path: Path) -> "np.lib.npyio.NpzFile":
    """Opens a file of arrays.

    Raises:
      UserError: it is of another kind, or damaged.
    """
    broken = UserError(
        f"{path} is no .npz file of arrays, or is damaged; numpy.savez writes such files."
    )
    # Looked at first: numpy takes other files for pickles, and leaves them open.
    if not zipfile.is_zipfile(path):
        raise broken
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise broken from error
