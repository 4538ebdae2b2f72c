"""Compiled programs: they are kept on disk, and those that run once are compiled quickly."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from bap_jax.types import PyTree

_OFF = "none"
_NUMBERS = (bool, int, float, complex)
_PROMOTION = "jax_numpy_dtype_promotion"


def cache_folder(folder: str = "") -> Path | None:
    """Where programs are kept; None: nowhere.

    Args:
      folder: a folder, or `none`; by default the environment variable JAX_COMPILATION_CACHE_DIR,
        or if that is not set `bap_jax` in the user's folder of caches.
    """
    folder = folder or os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    if folder == _OFF:
        return None
    if folder:
        return Path(folder)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "bap_jax"


def keep_programs(folder: str = "") -> Path | None:
    """Lets this process read and write compiled programs in a folder.

    Small programs are kept, too: a run compiles about twenty of them.

    Args:
      folder: see `cache_folder`.

    Returns:
      The folder; None if nothing is kept.
    """
    path = cache_folder(folder)
    if path is None:
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path


def with_usual_promotion(function: Callable) -> Callable:
    """The same function, traced as if `jax_numpy_dtype_promotion` had its default.

    Under `strict`, JAX refuses `2.0 ** step` for an integer step, as optax writes it. What the
    library computes is meant as it stands; the setting is for the user's own code.
    """

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        if getattr(jax.config, _PROMOTION) == "standard":
            return function(*args, **kwargs)
        with jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return wrapped


def strongly_typed(tree: PyTree) -> PyTree:
    """The tree with strongly typed arrays; Python numbers become arrays, too.

    A program is compiled for weak types apart. `jnp.full(3, 0.5)` is weakly typed, and a sum with
    another array is not; so the state after a first step would need a program of its own.

    Example:
      >>> strongly_typed({"memory": jnp.full(3, 0.5)})["memory"].weak_type
      False
    """

    def on_leaf(leaf):
        is_weak = isinstance(leaf, _NUMBERS) or getattr(leaf, "weak_type", False)
        return jax.lax.convert_element_type(leaf, jnp.result_type(leaf)) if is_weak else leaf

    return jax.tree.map(on_leaf, tree)


def jit_once(function: Callable) -> "ProgramThatRunsOnce":
    """`jax.jit` for a function that runs once, such as one that makes the first arrays.

    XLA optimises it less, which takes a quarter of the time for the first arrays of an MLP. The
    results are the same bit for bit: this level still joins products and sums as the others do,
    and none of them reorders sums. On other backends than a CPU, where this was not tried, and
    within a function that is itself traced, it is `jax.jit`: only outermost programs have options.
    """
    return ProgramThatRunsOnce(function)


class ProgramThatRunsOnce:
    """What `jit_once` returns: the function, compiled when it is first called."""

    def __init__(self, function: Callable):
        self._quick = jax.jit(function, compiler_options={"xla_backend_optimization_level": 1})
        self._usual = jax.jit(function)
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any) -> Any:
        """The function's results."""
        # Under jit the zero is a tracer, too, so that constant arguments make no difference.
        leaves = jax.tree.leaves((args, jnp.zeros(())))
        is_traced = any(isinstance(leaf, Tracer) for leaf in leaves)
        return (self._usual if is_traced else self._outermost())(*args)

    def lower(self, *args: Any) -> Any:
        """The lowered program for arguments like these, as that of `jax.jit(function).lower`."""
        return self._outermost().lower(*args)

    def _outermost(self):
        return self._quick if jax.default_backend() == "cpu" else self._usual
