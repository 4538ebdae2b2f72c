"""How fast a device could be: its maker's numbers, and what large operations reach on it.

Peaks are for dense matrices, in operations a second:

    H100, H200, A100, T4   NVIDIA's data sheets, without sparsity; SXM unless the name says PCIe
    TPU v4, v5e            cloud.google.com/tpu/docs, "peak compute per chip"
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import timing


class Peak(NamedTuple):
    """Operations a second in bfloat16 (float16 on a T4), TF32 and float32; None: not supported."""

    bfloat16: float
    tf32: float | None
    float32: float | None


# The first name that is part of the device's decides.
PEAKS = {
    "H100 PCIe": Peak(756e12, 378e12, 51e12),
    "H100": Peak(989e12, 494e12, 67e12),
    "H200": Peak(989e12, 494e12, 67e12),
    "A100": Peak(312e12, 156e12, 19.5e12),
    "T4": Peak(65e12, None, 8.1e12),
    "TPU v5 lite": Peak(197e12, None, None),
    "TPU v5e": Peak(197e12, None, None),
    "TPU v4": Peak(275e12, None, None),
}
_ROUGH = 1e-5  # relative error of a product above which it was not one of float32 numbers


def peak_of(device_kind: str) -> Peak | None:
    """The peak of a device by its name; None if it is not known."""
    return next((peak for name, peak in PEAKS.items() if name in device_kind), None)


def product_error() -> float:
    """Relative error of a product of float32 matrices: 1e-7 in float32, 1e-4 to 1e-3 in TF32."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(512, 512)).astype(np.float32) for _ in range(2))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    found = np.asarray(jax.jit(jnp.matmul)(a, b), np.float64)
    return float(np.abs(found - exact).mean() / np.abs(exact).mean())


def share_of_peak(flops_per_second: float, precision: str) -> tuple[float | None, str]:
    """Which fraction of its peak a device reaches.

    Args:
      flops_per_second: reached.
      precision: of the network. Products of float32 are compared with what the device's defaults
        make of them: TF32, or on a TPU bfloat16.

    Returns:
      The fraction, None if the peak is not known, and the name of the peak.
    """
    peak = peak_of(jax.devices()[0].device_kind)
    kind = precision
    if precision == "float32" and product_error() > _ROUGH:
        kind = "tf32" if jax.default_backend() == "gpu" else "bfloat16"
    best = getattr(peak, kind) if peak else None
    return (flops_per_second / best if best else None), kind


def product_speed(size: int, dtype: str, repeats: int = 8) -> float:
    """Operations a second of products of `(size, size)` matrices, each of the one before."""
    left = jax.random.normal(jax.random.key(0), (size, size), dtype)

    @jax.jit
    def run(left):
        def body(_, product):
            return (product @ left) * jnp.asarray(size**-0.5, dtype)

        return jax.lax.fori_loop(0, repeats, body, left)

    return repeats * 2 * size**3 / _median_seconds(lambda: run(left))


def copy_speed(elements: int, repeats: int = 8) -> float:
    """Bytes a second, read and written, of passes over `elements` float32 numbers."""
    numbers = jnp.ones(elements, jnp.float32)

    @jax.jit
    def run(numbers):
        return jax.lax.fori_loop(0, repeats, lambda _, x: x * 1.0001, numbers)

    passes = repeats + 1  # and the copy of the argument, which is not donated
    return passes * 2 * 4 * elements / _median_seconds(lambda: run(numbers))


def _median_seconds(run):
    for _ in range(2):
        timing.time_once(run)
    return float(np.median([timing.time_once(run) for _ in range(5)]))
