"""What the members of a sweep need in the device's memory, by XLA's analysis of the epoch.

    python benchmarks/memory.py --json=memory.json
    python benchmarks/memory.py --network=imagenet_resnet --depth=50 --size=224 --members=1,2

The program of an epoch (CEAG, ten groups, SGD with momentum, gradual magnitude pruning) is compiled
and never run, with its states donated and, as `kept`, without; `--kept=false` leaves that out.
Columns, in MiB:

    arguments   states, data, dense network
    outputs     states and numbers of the epoch
    aliased     outputs that overwrite an argument
    temporary   gradients, values of the forward pass
    between     what the host keeps on the device while an epoch runs: if states are kept the last
                good ones and the pruned networks, else nothing
    in all      arguments + outputs − aliased + temporary + between

`states` are the bytes of the members' states, `estimate` is what `pipeline.capacity` expects on the
device, without data and dense network. The last lines, where there is
more than one number of members, are what each further one needs. XLA compiles for the backend at
hand; on a CPU the temporary arrays of convolutions are not those of a GPU.
"""

import types

import jax
import numpy as np
import timing
from absl import app, flags

from bap_jax import data, models
from bap_jax.metrics import CLASSIFICATION
from bap_jax.pipeline.memory import need_of_program
from bap_jax.pipeline.tuner import make_compiled_run
from bap_jax.training import Execution, Settings
from bap_jax.training.loop import jit_epoch, over_members
from bap_jax.types import Dataset

_NETWORK = flags.DEFINE_enum(
    "network", "mlp", ["mlp", "resnet", "imagenet_resnet", "mobilenet_v2"], "built-in network"
)
_DEPTH = flags.DEFINE_integer("depth", 50, "of a residual network")
_SIZE = flags.DEFINE_integer("size", 32, "height and width of images; inputs of an MLP")
_BATCH = flags.DEFINE_integer("batch", 128, "samples of a step")
_MODES = flags.DEFINE_list("modes", ["vmap", "map"], "how members run")
_MEMBERS = flags.DEFINE_list("members", ["2", "4"], "numbers of members")
_KEPT = flags.DEFINE_bool("kept", True, "also compile the epoch without donation")
_JSON = flags.DEFINE_string("json", None, "file to write the numbers to")
MIB = 2**20
NUM_CLASSES = 10


def make_splits() -> data.Splits:
    """Zeros: four steps of training samples and 512 of each other split."""
    shape = (_SIZE.value,) if _NETWORK.value == "mlp" else (_SIZE.value, _SIZE.value, 3)

    def split(size):
        inputs, labels = np.zeros((size, *shape), np.float32), np.zeros(size, np.int32)
        return Dataset(inputs, labels, labels[:, None])

    names = tuple(map(str, range(NUM_CLASSES)))
    return data.Splits(split(4 * _BATCH.value), split(512), split(512), NUM_CLASSES, names)


def make_context(how: str) -> types.SimpleNamespace:
    """What programs need of a `RunContext`; nothing is evaluated."""
    options = {} if _NETWORK.value in ("mlp", "mobilenet_v2") else {"depth": _DEPTH.value}
    model, splits = models.build(_NETWORK.value, NUM_CLASSES, **options), make_splits()
    shapes = jax.eval_shape(model.init, jax.random.key(0), splits.train.inputs[:1])
    return types.SimpleNamespace(
        model=model,
        variables=jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes),
        splits=splits,
        train=splits.train,
        validation=splits.validation,
        reference=timing.reference(NUM_CLASSES),
        criterion=CLASSIFICATION,
        execution=Execution(epoch="device", members=how),
        mesh=None,
    )


def num_bytes(tree) -> int:
    """Bytes of arrays, or of their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def analyse(how: str, count: int, is_donated: bool) -> dict[str, float]:
    """MiB of the epoch of `count` members."""
    context, settings = make_context(how), Settings(batch_size=_BATCH.value)
    compiled = make_compiled_run(context, settings)
    values = compiled.values([settings] * count)
    init = over_members(compiled.program.init, how, 1)
    states = jax.eval_shape(init, values, compiled.shared, context.variables)
    epoch = jit_epoch(compiled.program, how)
    if not is_donated:
        epoch = jax.jit(over_members(compiled.program.epoch, how, 2))
    lowered = epoch.lower(states, values, compiled.shared, compiled.train, 0)
    found = lowered.compile().memory_analysis()
    networks = num_bytes((states.params, states.model_state, states.masks))
    row = {
        "arguments": found.argument_size_in_bytes,
        "outputs": found.output_size_in_bytes,
        "aliased": found.alias_size_in_bytes,
        "temporary": found.temp_size_in_bytes,
        "between": 0 if is_donated else num_bytes(states) + networks,
    }
    row["in all"] = sum(row.values()) - 2 * row["aliased"]
    row["states"] = num_bytes(states)
    need = need_of_program(context, settings)
    row["estimate"] = need.fixed + count * need.per_member
    return {name: size / MIB for name, size in row.items()}


def show(name: str, row: dict[str, float]) -> None:
    """Prints a row."""
    print(f"{name:>16}" + "".join(f"{row[key]:12.2f}" for key in row), flush=True)


def main(argv):
    del argv
    counts, rows = sorted(map(int, _MEMBERS.value)), {}
    kinds = ("kept", "donated") if _KEPT.value else ("donated",)
    cases = [f"{how} {kind}" for how in _MODES.value for kind in kinds]
    for case in cases:
        how, kind = case.split()
        for count in counts:
            rows[f"{case} {count}"] = row = analyse(how, count, kind == "donated")
            if len(rows) == 1:
                print(" " * 16 + "".join(f"{key:>12}" for key in row))
            show(f"{case} {count}", row)
            jax.clear_caches()
    for case in cases if len(counts) > 1 else ():
        one, other = (rows[f"{case} {count}"] for count in counts[-2:])
        rows[f"{case} each"] = {
            key: (other[key] - one[key]) / (counts[-1] - counts[-2]) for key in one
        }
        show(f"{case} each", rows[f"{case} each"])
    timing.write_json(_JSON.value, {"mebibytes": rows, "batch": _BATCH.value, "size": _SIZE.value})


if __name__ == "__main__":
    app.run(main)
