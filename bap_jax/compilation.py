"""Compiled programs are kept on disk, so that the next process need not compile them again."""

import os
from pathlib import Path

import jax

_OFF = "none"


def cache_folder(chosen: str = "") -> Path | None:
    """Where programs are kept; None: nowhere.

    Args:
      chosen: a folder, or `none`; by default what the environment's JAX_COMPILATION_CACHE_DIR says,
        or else `bap_jax` in the user's folder of caches.
    """
    chosen = chosen or os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    if chosen == _OFF:
        return None
    if chosen:
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "bap_jax"


def keep_programs(chosen: str = "") -> Path | None:
    """Lets this process find and leave compiled programs in `cache_folder(chosen)`, which it tells.

    Small programs are kept, too: a run compiles hundreds.
    """
    folder = cache_folder(chosen)
    if folder is None:
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
