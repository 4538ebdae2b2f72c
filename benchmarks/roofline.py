"""The least time that a step can take on an accelerator: an estimate, not a measurement.

    python benchmarks/roofline.py --device=h100 --json=roofline.json

    seconds ≥ max(FLOPs / peak, bytes / bandwidth)

FLOPs are those of the step as XLA counts them before it compiles anything. Bytes are read and
written by the program that the compiler for an H100 makes (`--device=h100`, see `compiled.py`):
arrays that a fusion keeps in registers do not count, those that stay in a cache do. Without
`--device` they are those of the program before any fusion, many times too many.

The constraints' share is the step of `ceag` less that of `nft`. It does not depend on the network,
so it is read off the MLP for each number of groups. Cost: about ten minutes on one core.
"""

import compiled
import jax
import programs
import timing
from absl import app, flags
from roofline_bounds import Costs, bounds

_JSON = flags.DEFINE_string("json", None, "file to write the numbers to")
_DEVICE = flags.DEFINE_string("device", None, "compile for h100, v5e or here; default: count only")
_ONLY = flags.DEFINE_list("only", [key for key in programs.NETWORKS if key != "tiny"], "networks")
_GROUPS = flags.DEFINE_list("groups", ["10", "100", "1000", "10000", "100000"], "of the MLP")


def costs(network: programs.Network, method: str, groups: int, device: str | None) -> Costs:
    """What a step costs; its bytes as `device`'s compiler fuses it.

    Args:
      network: what is trained.
      method: its name.
      groups: of the data.
      device: a key of `compiled.PLATFORMS`, or None.
    """
    platform = compiled.platform_of(device or "here") or "cpu"
    settings = programs.settings_of(network, method)
    function, args = programs.prepare(network, "step", settings, groups, 1, platform)
    counted = jax.jit(function).trace(*args).lower(lowering_platforms=("cpu",)).cost_analysis()
    if device is None:
        return Costs(counted["flops"], counted["bytes accessed"])
    executable = compiled.compile_for(device, function, args)
    return Costs(counted["flops"], compiled.bytes_accessed(executable))


def main(argv):
    del argv
    rows, overhead = {}, {}
    for name in _ONLY.value:
        network = programs.NETWORKS[name]
        cost = costs(network, "nft", 100, _DEVICE.value)
        rows[name] = {**cost._asdict(), "bounds": bounds(cost, network.batch)}
        print(
            f"{name:>14} {cost.flops / 1e9:10,.3f} GFLOP {cost.bytes / 1e6:10,.1f} MB", flush=True
        )
        for chip, bound in rows[name]["bounds"].items():
            print(
                f"{'':>14} {chip:>18} ≥ {bound['ms']:8.4f} ms, ≤ {bound['samples']:12,.0f} samples "
                f"a second ({bound['binds']})"
            )
    for count in map(int, _GROUPS.value):
        with_groups = [
            costs(programs.NETWORKS["mlp"], method, count, _DEVICE.value)
            for method in ("nft", "ceag")
        ]
        flops, nbytes = (high - low for low, high in zip(*with_groups, strict=True))
        overhead[count] = {"flops": flops, "bytes": nbytes}
        shares = ", ".join(f"{name} {nbytes / row['bytes']:.3%}" for name, row in rows.items())
        print(
            f"{count:9,d} groups: {flops:12,.0f} FLOP {nbytes:12,.0f} bytes ({shares})", flush=True
        )
    timing.write_json(_JSON.value, {"steps": rows, "constraints": overhead})


if __name__ == "__main__":
    app.run(main)
