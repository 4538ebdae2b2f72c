"""Files of several arrays, as `numpy.savez` writes them."""

import zipfile
from pathlib import Path

import numpy as np

from bap_jax.errors import UserError


def load_npz(path: Path) -> "np.lib.npyio.NpzFile":
    """Opens a file of arrays.

    Raises:
      UserError: the file is not an .npz of arrays, or is damaged.
    """
    try:
        # First, as numpy takes other files for pickles, and leaves damaged ones open.
        with zipfile.ZipFile(path):
            pass
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is no .npz file of arrays, or is damaged; numpy.savez writes such files."
        ) from error
