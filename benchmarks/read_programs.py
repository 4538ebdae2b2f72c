"""What a GPU would stumble over in the programs of a run, read off their text.

    python benchmarks/read_programs.py --json=programs.json
    python benchmarks/read_programs.py --device=h100 --networks=mlp --programs=epoch

The first command reads what JAX hands to a GPU's compiler (StableHLO lowered for CUDA), which needs
no GPU; the second also compiles it, see `compiled.py` for what that takes. A line for each program:

    ops        operations of one step, those without work (constants, reshapes, ...) left out
    branches   conditionals of a step: a GPU waits until the host has read which branch to take
    loops      loops within a step, one after the other
    sorts      sorts of a step, and how many numbers the largest of them sorts
    scatters   of a step: those whose indices may occur twice, then all
    gathers    bytes of the largest gather of a step, beside those of one batch
    transposes of a step with four axes or more: beside convolutions
    masks      bytes of masks that every step carries on, copies or chooses between
    metrics    bytes that a step writes for the host
    callbacks  callbacks, transfers and custom calls, anywhere
    f64        values in double precision, anywhere
    launches   (--device) kernels that a step starts, by the compiler's own plan
    temp       (--device) MiB of temporary memory

Cost: about a minute on one core; with --device a quarter of a minute for each program of an MLP.
"""

from typing import Any

import compiled
import operations
import program_facts
import programs
import timing
from absl import app, flags

_JSON = flags.DEFINE_string("json", None, "file to write the numbers to")
_NETWORKS = flags.DEFINE_list("networks", ["mlp", "resnet20", "resnet56"], "keys of NETWORKS")
_METHODS = flags.DEFINE_list("methods", ["nft", "ceag", "el", "pairwise"], "methods")
_PROGRAMS = flags.DEFINE_list("programs", list(programs.PROGRAMS), "which programs")
_GROUPS = flags.DEFINE_integer("groups", 100, "groups of the data")
_MEMBERS = flags.DEFINE_integer("members", 4, "members of vmap and map")
_PLATFORM = flags.DEFINE_string("platform", "cuda", "cpu, cuda or tpu: whose text is read")
_DEVICE = flags.DEFINE_string("device", None, "also compile for h100, v5e or here")


def compiled_facts(device: str, network: programs.Network, program: str, method: str) -> dict:
    """Launches of a step and memory, from the program that a device's compiler makes."""
    platform = compiled.platform_of(device) or "cpu"
    settings = programs.settings_of(network, method)
    function, args = programs.prepare(
        network, program, settings, _GROUPS.value, _MEMBERS.value, platform
    )
    executable = compiled.compile_for(device, function, args)
    text = compiled.computations(executable.as_text())
    body = "ENTRY" if program == "step" else compiled.steps_loop(text, programs.STEPS)
    started, memory = compiled.launches(text, body), executable.memory_analysis()
    return {
        "launches": started.total(),
        "by_opcode": dict(started),
        "temp_mib": memory.temp_size_in_bytes / 2**20,
        "argument_mib": memory.argument_size_in_bytes / 2**20,
        "output_mib": memory.output_size_in_bytes / 2**20,
        "alias_mib": memory.alias_size_in_bytes / 2**20,
    }


def show(name: str, row: dict[str, Any]) -> None:
    """Prints the numbers of one program."""
    (sorts, largest), (may_repeat, scatters) = row["sorts"], row["scatters"]
    text = (
        f"{name:>24} {row['ops']:5d} {row['branches']:8d} {row['loops']:5d} "
        f"{sorts:2d} {largest:5,d} {may_repeat:4d} of {scatters:2d} "
        f"{row['gathers']:9,d} {row['transposes']:10d} "
        f"{row['masks']:9,d} {row['metrics']:7,d} {','.join(row['callbacks']) or '-':>9} "
        f"{row['f64']:3d}"
    )
    if "launches" in row:
        text += f" {row['launches']:8d} {row['temp_mib']:8.1f}"
    print(text, flush=True)


def main(argv):
    del argv
    rows = {}
    header = "{:>24} {:>5} {:>8} {:>5} {:>8} {:>10} {:>9} {:>10} {:>9} {:>7} {:>9} {:>3}".format(
        "program", "ops", "branches", "loops", "sorts", "scatters", "gathers", "transposes",
        *("masks", "metrics", "callbacks", "f64"),
    )  # fmt: skip
    print(header + (" launches     temp" if _DEVICE.value else ""))
    for key in _NETWORKS.value:
        network = programs.NETWORKS[key]
        for program in _PROGRAMS.value:
            for method in _METHODS.value:
                lowered = programs.lower(
                    network,
                    program,
                    programs.settings_of(network, method),
                    _GROUPS.value,
                    members=_MEMBERS.value,
                    platform=_PLATFORM.value,
                )
                row = program_facts.facts(operations.read(lowered), program)
                if _DEVICE.value:
                    row |= compiled_facts(_DEVICE.value, network, program, method)
                name = f"{key} {program} {method}"
                rows[name] = row
                show(name, row)
    timing.write_json(_JSON.value, {"programs": rows})


if __name__ == "__main__":
    app.run(main)
