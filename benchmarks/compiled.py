"""Programs compiled for an accelerator that is not there, and what the compiler made of them.

    h100    the compiler for one H100 SXM; needs packages jax-cuda12-plugin and jax-cuda12-pjrt
    v5e     the compiler for one TPU v5e; needs the package libtpu
    here    this machine's backend

No device is needed, only its compiler. Nothing is tuned by trial on the device, so the programs for
an H100 may pick other kernels for products and convolutions than one that is compiled there.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

# JAX reads these when it first looks for devices, which lowering a program already does: the first
# lets its plug-in load without a driver, the second does not ask a TPU's host.
os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

import jax
from jax.sharding import SingleDeviceSharding

from bap_jax.errors import UserError

PLATFORMS = {"h100": "cuda", "v5e": "tpu", "here": None}
# One H100 SXM5 of 80 GB, as its driver reports it.
_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98
  threads_per_warp: 32  threads_per_block_limit: 1024  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  shared_memory_per_block: 49152  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  l2_cache_size: 52428800  memory_bandwidth: 3352320000000  device_memory_size: 84942979072
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
# These name a value or a part of one; nothing runs for them.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"),
    *("partition-id", "replica-id", "add-dependency", "opt-barrier"),
}
_CALLS = "calls|to_apply|body|true_computation|false_computation"
_ASYNC_ENDS = ("copy-done", "async-done", "slice-done")


class Instruction(NamedTuple):
    """A line of a compiled program.

    Attributes:
      name, type, opcode: `%name = type opcode(...)`.
      calls: the computations that it calls.
      trips: of a loop, its number of rounds; None where it is not known.
      text: the whole line.
    """

    name: str
    type: str
    opcode: str
    calls: tuple[str, ...]
    trips: int | None
    text: str


def platform_of(device: str) -> str | None:
    """The platform to lower for; None for this machine's.

    Raises:
      UserError: the name is unknown.
    """
    if device not in PLATFORMS:
        raise UserError(f"unknown device {device!r}; known: {', '.join(PLATFORMS)}.")
    return PLATFORMS[device]


def compile_for(device: str, function: Callable, args: tuple) -> Any:
    """The program of `function`, compiled for a device.

    Args:
      device: a key of `PLATFORMS`.
      function: a pure function.
      args: arrays or shapes.

    Returns:
      A `jax.stages.Compiled`.

    Raises:
      UserError: the compiler is not installed.
    """
    if device == "here":
        return jax.jit(function).lower(*args).compile()
    placed = SingleDeviceSharding(_device(device))
    args = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), args)
    jitted = jax.jit(function, in_shardings=placed, out_shardings=placed)
    lowered = jitted.trace(*args).lower(lowering_platforms=(platform_of(device),))
    # Without a device no kernel can be chosen by trial.
    return lowered.compile({"xla_gpu_autotune_level": "0"} if device == "h100" else None)


def _device(device: str) -> Any:
    from jax.experimental import topologies

    try:
        if device == "v5e":
            return topologies.get_topology_desc("v5e:2x2", platform="tpu").devices[0]
        options = {"topology": "1x1x1", "target_config": _H100}
        return topologies.get_topology_desc("", platform="cuda", **options).devices[0]
    except (NotImplementedError, RuntimeError) as error:
        packages = {"v5e": "libtpu", "h100": "jax-cuda12-plugin and jax-cuda12-pjrt"}[device]
        raise UserError(f"no compiler for {device}; install {packages} ({error}).") from error


def computations(text: str) -> dict[str, list[Instruction]]:
    """The instructions of each computation of a compiled program, by its name; `ENTRY` is main."""
    found, current = {}, []
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith((" ", "HloModule")):
            name = "ENTRY" if line.startswith("ENTRY") else line.split()[0].lstrip("%")
            current = found[name] = []
        elif line.startswith("  ") and " = " in line:
            current.append(_instruction(line.strip()))
    return found


def _instruction(line):
    name, definition = line.removeprefix("ROOT ").split(" = ", 1)
    rest = _after_type(definition)
    calls = re.findall(rf"(?:{_CALLS})=%?([\w.-]+)", rest)
    for group in re.findall(r"branch_computations=\{([^}]*)\}", rest):
        calls += [name.strip().lstrip("%") for name in group.split(",")]
    trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', rest)
    return Instruction(
        name.lstrip("%"),
        definition[: -len(rest)].strip(),
        rest.split("(", 1)[0],
        tuple(calls),
        int(trips[1]) if trips else None,
        line,
    )


def _after_type(text):
    """What follows the type; a tuple's may hold blanks and parentheses."""
    if not text.startswith("("):
        return text.split(" ", 1)[1]
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[i + 2 :]
    return text


def bytes_accessed(executable: Any) -> float:
    """Bytes that a program without loops reads and writes, by XLA's analysis of its fusions.

    The analysis knows nothing of calls of libraries; they count their arguments and results.
    """
    from jaxlib import _jax  # the compiler for a GPU offers no `cost_analysis`

    client = jax.devices()[0].client
    total = 0.0
    for module in executable.runtime_executable().hlo_modules():
        total += _jax.hlo_module_cost_analysis(client, module)["bytes accessed"]
    return total + library_bytes(computations(executable.as_text()))


def library_bytes(program: dict[str, list[Instruction]]) -> int:
    """Bytes of the arguments and results of every call of a library, working memory left out."""
    total, types = 0, {each.name: each.type for each in program["ENTRY"]}
    for each in program["ENTRY"]:
        if each.opcode == "custom-call":
            arguments = each.text.split("custom-call(", 1)[1].split(")")[0]
            names = re.findall(r"%([\w.-]+)", arguments)
            total += sum(_type_bytes(types[name]) for name in names)
            total += _type_bytes(re.sub(r", u8\[.*", "", each.type))
    return total


def _type_bytes(text):
    """Bytes of the arrays in a type such as `(f32[2,3]{1,0}, s32[])`."""
    sizes = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "f64": 8}
    return sum(
        sizes.get(dtype, 4) * math.prod(int(size) for size in shape.split(",") if size)
        for dtype, shape in re.findall(r"([a-z]+[0-9]*)\[([0-9,]*)\]", text)
    )


def steps_loop(program: dict[str, list[Instruction]], steps: int) -> str:
    """The computation that is the body of the loop over steps.

    Raises:
      UserError: there is none with so many rounds.
    """
    for instructions in program.values():
        for each in instructions:
            if each.opcode == "while" and each.trips == steps:
                return each.calls[0]
    raise UserError(f"the program has no loop of {steps} rounds.")


def launches(program: dict[str, list[Instruction]], name: str) -> Counter:
    """What a computation starts on the device, by opcode.

    The body of a loop counts once for each round, or once if their number is not known; of a
    conditional its longest branch counts. A fusion is one launch.
    """
    total = Counter()
    for each in program[name]:
        if each.opcode in _FREE or each.opcode.endswith(_ASYNC_ENDS):
            continue
        if each.opcode == "call":
            total += launches(program, each.calls[0])
            continue
        total[each.opcode] += 1
        if each.opcode == "while":
            body = launches(program, each.calls[0])
            total += Counter({op: count * (each.trips or 1) for op, count in body.items()})
        elif each.opcode == "conditional":
            branches = [launches(program, branch) for branch in each.calls]
            total += max(branches, key=Counter.total)
    return total
