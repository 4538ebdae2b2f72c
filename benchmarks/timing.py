"""What benchmarks share: two things timed in turn, a dense reference, the file of ratios."""

import json
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax import constraints


def time_once(run: Callable[[], Any]) -> float:
    """Seconds until all that `run` returns is there."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def compare(one: Callable[[], Any], other: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Times two things in turn, after a warm-up, their order swapped every round.

    Returns:
      `ratio`, the median over rounds of seconds of `one` over seconds of `other`, with its
      quartiles, and both medians in milliseconds.
    """
    pair, seconds = (one, other), ([], [])
    for run in pair:
        time_once(run)
    for i in range(rounds):
        for which in (0, 1) if i % 2 == 0 else (1, 0):
            seconds[which].append(time_once(pair[which]))
    ratios = np.array(seconds[0]) / np.array(seconds[1])
    return {
        "ratio": float(np.median(ratios)),
        "lower_quartile": float(np.quantile(ratios, 0.25)),
        "upper_quartile": float(np.quantile(ratios, 0.75)),
        "ms": 1000 * float(np.median(seconds[0])),
        "against_ms": 1000 * float(np.median(seconds[1])),
    }


def reference(num_groups: int) -> constraints.DenseReference:
    """A dense model that is right nine times out of ten in every group."""
    everywhere = jnp.ones(num_groups)
    return constraints.DenseReference(
        0.9 * everywhere,
        jnp.float32(0.9),
        0.3 * everywhere,
        jnp.float32(0.3),
        everywhere / num_groups,
        100 * everywhere,
    )


def show(name: str, row: Mapping[str, float]) -> None:
    """A line for the terminal."""
    print(
        f"{name:>16} {row['ms']:12.2f} ms {row['against_ms']:12.2f} ms  ratio {row['ratio']:.3f} "
        f"({row['lower_quartile']:.3f} – {row['upper_quartile']:.3f})",
        flush=True,
    )


def write(path: str | None, rows: Mapping[str, Mapping[str, float]], **others: Any) -> None:
    """`{"ratios": {name: value}, "details": …, "device": …}`, if there is a path."""
    if not path:
        return
    device = f"{jax.devices()[0].device_kind}, {platform.machine()}"
    ratios = {name: row["ratio"] for name, row in rows.items()}
    found = {"ratios": ratios, "details": dict(rows), "device": device, **others}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1)
