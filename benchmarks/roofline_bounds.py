"""The least time that operations and bytes can take on an accelerator, by its data sheet."""

from typing import NamedTuple

from accelerator_parts.peaks import PEAKS


class Chip(NamedTuple):
    """An accelerator by its data sheet.

    Attributes:
      flops: operations a second by the name of the number type, dense.
      bandwidth: bytes a second of its memory.
    """

    flops: dict[str, float]
    bandwidth: float


_H100 = PEAKS["H100"]
CHIPS = {
    "H100 SXM": Chip({"TF32": _H100.tf32, "bfloat16": _H100.bfloat16}, 3.35e12),
    "TPU v5e": Chip({"bfloat16": PEAKS["TPU v5e"].bfloat16}, 819e9),
}


class Costs(NamedTuple):
    """Operations and bytes of a step."""

    flops: float
    bytes: float


def bounds(cost: Costs, batch: int) -> dict[str, dict]:
    """For each chip and number type the least milliseconds, most samples a second, and what binds.

    Args:
      cost: of a step.
      batch: samples of a step.
    """
    rows = {}
    for chip, (peaks, bandwidth) in CHIPS.items():
        for kind, peak in peaks.items():
            times = {"FLOPs": cost.flops / peak, "bytes": cost.bytes / bandwidth}
            binds = max(times, key=lambda name: times[name])
            rows[f"{chip} {kind}"] = {
                "ms": 1000 * times[binds],
                "samples": batch / times[binds],
                "binds": binds,
            }
    return rows
