"""Time from the start of Python to the end of the first training step, and peak memory.

    python benchmarks/first_step.py --config=experiments/utkface.py:cpu --data_dir=DIR --json=FILE

The first process decodes the images and compiles the step. The second one finds both on disk.
Cost: under a minute for UTKFace on two cores.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app
from absl import flags as absl_flags

_JSON = absl_flags.DEFINE_string("json", None, "file to write the seconds to")
_FOLDER = absl_flags.DEFINE_string("folder", None, "set by this script for its own processes")
_STARTED = absl_flags.DEFINE_float(
    "started", 0.0, "set by this script for its own processes: seconds since 1970"
)


def one_step(folder: Path) -> dict[str, float]:
    """Seconds until the data are loaded and until one step is done; peak memory in GiB; samples."""
    from bap_jax import compilation, config, flags, pipeline
    from bap_jax.pipeline.context import place
    from bap_jax.task import load_task
    from bap_jax.training import Execution

    compilation.keep_programs(str(folder / "programs"))
    plain = json.loads(flags.config().to_json())
    task = load_task(plain, Execution(data_cache=str(folder / "data")))
    task = task._replace(splits=pipeline.read_what_fits(task.splits, Execution()))
    loaded = time.time()
    train = place(task.splits.train, None)
    batch = train._replace(
        inputs=train.inputs[: plain["batch_size"]],
        labels=train.labels[: plain["batch_size"]],
        group_ids=train.group_ids[: plain["batch_size"]],
    )
    pipeline.train_dense(
        task.model,
        task.untrained,
        batch,
        config.dense_optimizer(plain),
        epochs=1,
        batch_size=plain["batch_size"],
        seed=0,
    )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "loaded": loaded - _STARTED.value,
        "first_step": time.time() - _STARTED.value,
        "peak_gib": memory,
        "samples": sum(split.size for split in task.splits[:3]),
    }


def main(argv: list[str]) -> None:
    """Measures in two new processes, or in this one if it is one of them."""
    if _FOLDER.value:
        print(json.dumps(one_step(Path(_FOLDER.value))))
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first", "second"):
            command = [sys.executable, *sys.orig_argv[1:], f"--folder={folder}"]
            command.append(f"--started={time.time()}")
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[name] = json.loads(done.stdout.splitlines()[-1])
            print(name, {key: round(value, 2) for key, value in results[name].items()}, flush=True)
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    # Defines the flags of the config and the data.
    import bap_jax.flags  # noqa: F401

    app.run(main)
