"""What the benchmarks share: timing two functions in turn, a dense reference, the JSON file."""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax import constraints


def time_once(run: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds until everything that `run` returns has been computed."""
    start = clock()
    jax.block_until_ready(run())
    return clock() - start


def ratios(seconds: Sequence[float], against: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of the ratios of two times, one pair a round."""
    quotients = np.array(seconds) / np.array(against)
    return {
        "ratio": float(np.median(quotients)),
        "lower_quartile": float(np.quantile(quotients, 0.25)),
        "upper_quartile": float(np.quantile(quotients, 0.75)),
    }


def median_ms(seconds: Sequence[float]) -> float:
    """Median in milliseconds."""
    return 1000 * float(np.median(seconds))


def compare(
    run: Callable[[], Any],
    against: Callable[[], Any],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Times two functions in turn, after a warm-up; their order is swapped every round.

    Args:
      run, against: the functions; they are called without arguments.
      rounds: how often each is timed.
      clock: returns seconds.

    Returns:
      `ratio`, the median over rounds of the seconds of `run` over those of `against`, with its
      quartiles, and the median times `ms` of `run` and `against_ms`.
    """
    return against_each_other(
        *interleaved({"run": run, "against": against}, rounds, clock).values()
    )


def interleaved(
    functions: dict[str, Callable[[], Any]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    is_enough: Callable[[], bool] = lambda: False,
) -> dict[str, list[float]]:
    """Times functions in turn, after a warm-up; their order is reversed every round.

    Args:
      functions: by name; they are called without arguments.
      rounds: how often each is timed.
      clock: returns seconds.
      is_enough: asked after every round from the third on; True ends the timing early.

    Returns:
      The seconds of each function, one for each round.
    """
    seconds = {name: [] for name in functions}
    for function in functions.values():
        time_once(function, clock)
    for i in range(rounds):
        for name in functions if i % 2 == 0 else reversed(functions):
            seconds[name].append(time_once(functions[name], clock))
        if i >= 2 and is_enough():
            break
    return seconds


def against_each_other(seconds: Sequence[float], against: Sequence[float]) -> dict[str, float]:
    """`ratios`, and the median times `ms` and `against_ms`."""
    return {
        **ratios(seconds, against),
        "ms": median_ms(seconds),
        "against_ms": median_ms(against),
    }


def reference(num_groups: int) -> constraints.DenseReference:
    """A dense model with an accuracy of 0.9 in every group."""
    ones = jnp.ones(num_groups)
    return constraints.DenseReference(
        0.9 * ones,
        jnp.float32(0.9),
        0.3 * ones,
        jnp.float32(0.3),
        ones / num_groups,
        100 * ones,
        0.5 * ones,
    )


def show(name: str, row: Mapping[str, float]) -> None:
    """Prints a row of `compare`."""
    print(
        f"{name:>16} {row['ms']:12.2f} ms {row['against_ms']:12.2f} ms  ratio {row['ratio']:.3f} "
        f"({row['lower_quartile']:.3f} – {row['upper_quartile']:.3f})",
        flush=True,
    )


def device() -> str:
    """What the times were measured on."""
    return f"{jax.devices()[0].device_kind}, {platform.machine()}"


def write(path: str | None, rows: Mapping[str, Mapping[str, float]], **others: Any) -> None:
    """Writes a JSON file of ratios, rows of `compare`, the device and `others` if there is a path.

    The keys are `ratios`, by name, `details`, the rows, `device`, and those of `others`.
    """
    values = {name: row["ratio"] for name, row in rows.items()}
    write_json(path, {"ratios": values, "details": dict(rows), **others})


def write_json(path: str | None, numbers: Mapping[str, Any]) -> None:
    """Writes numbers and the device to a JSON file if there is a path."""
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({**numbers, "device": device()}, file, indent=1)
