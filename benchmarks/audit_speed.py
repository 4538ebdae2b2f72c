"""The audit command on a large file: seconds and memory of its process, start included.

    python benchmarks/audit_speed.py --samples=1000000 --groups=10000 --rounds=3 --json=FILE

Makes the same samples as CSV, Parquet and .npz, and a file of 3,000 samples in 6 groups, in a
temporary folder. Every number is of a process of its own, with an HTML page and a JSON file written
unless it says otherwise. The median of several rounds is printed. Cost: about 2 minutes.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from absl import app
from absl import flags as absl_flags

_SAMPLES = absl_flags.DEFINE_integer("samples", 1_000_000, "of the large file")
_GROUPS = absl_flags.DEFINE_integer("groups", 10_000, "of the large file")
_ROUNDS = absl_flags.DEFINE_integer("rounds", 3, "how often each process is started")
_JSON = absl_flags.DEFINE_string("json", None, "file to write the numbers to")

ROOT = Path(__file__).resolve().parents[1]
FORMATS = (".csv", ".parquet", ".npz")


# A process counts the memory of the one that started it, so that one has to be small.
_LAUNCHER = """
import json, resource, subprocess, sys, time

start = time.perf_counter()
code = subprocess.call([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL)
seconds, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


class Cost(NamedTuple):
    """Of one process: seconds, seconds of all its cores, and most memory in MB."""

    seconds: float
    cpu_seconds: float
    megabytes: float


def write_samples(path: Path, samples: int, groups: int) -> None:
    """Writes labels, predictions and groups; the format is that of the name."""
    random = np.random.default_rng(0)
    label, wrong, worse = random.integers(0, 100, (3, samples))
    dense = np.where(random.random(samples) < 0.9, label, wrong)
    sparse = np.where(random.random(samples) < 0.93, dense, worse)
    names = np.array([f"group {i}" for i in range(groups)])[random.integers(0, groups, samples)]
    columns = {"label": label, "dense": dense, "sparse": sparse, "group": names}
    if path.suffix == ".npz":
        np.savez(path, **columns)
        return
    columns["sample_id"] = np.array([f"{i:07d}" for i in range(samples)])
    table = pa.table(columns)
    write = pyarrow.csv.write_csv if path.suffix == ".csv" else pyarrow.parquet.write_table
    write(table, path)


def cost(arguments: Sequence[str]) -> Cost:
    """Runs Python in a process of its own and waits for it; its exit code may be a verdict's."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", _LAUNCHER, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    code, *numbers = json.loads(done.stdout)
    if code not in (0, 1, 2):
        raise RuntimeError(f"{arguments} ended with exit code {code}: {done.stderr}")
    return Cost(*numbers)


def processes(folder: Path) -> dict[str, list[str]]:
    """What is measured, by name: the arguments of Python."""
    small, large = folder / "small.csv", folder / "large"
    write_samples(small, 3000, 6)
    output = [f"--report={folder / 'page.html'}", f"--json={folder / 'audit.json'}"]
    audit = ["-m", "bap_jax.audit", "--tolerance=0.01"]
    found = {
        "python alone": ["-c", "pass"],
        "import bap_jax.audit": ["-c", "from bap_jax.audit import compare, samples_needed"],
        "small.csv, text only": [*audit, str(small)],
        "small.csv": [*audit, str(small), *output],
    }
    for suffix in FORMATS:
        path = large.with_suffix(suffix)
        write_samples(path, _SAMPLES.value, _GROUPS.value)
        found[f"large{suffix}, {path.stat().st_size / 1e6:.0f} MB"] = [*audit, str(path), *output]
    return found


def show(name: str, costs: Sequence[Cost]) -> dict[str, float]:
    """Prints the medians, and returns them."""
    median = Cost(*np.median(np.array(costs), axis=0).tolist())
    print(
        f"{name:28}{median.seconds:9.2f} s {median.cpu_seconds:9.2f} s {median.megabytes:9.0f} MB",
        flush=True,
    )
    return median._asdict()


def write_json(rows: Mapping[str, Mapping[str, float]]) -> None:
    """Writes the numbers, and what they were measured on, if there is a file to write to."""
    if _JSON.value:
        about = {"machine": platform.machine(), "cores": len(os.sched_getaffinity(0))}
        Path(_JSON.value).write_text(json.dumps({"rows": rows, **about}, indent=1))


def main(_: Sequence[str]) -> None:
    """Measures every process, in turn, and prints a table."""
    with tempfile.TemporaryDirectory() as folder:
        measured = processes(Path(folder))
        cost(measured["small.csv"])  # afterwards files of Python and libraries are in memory
        rounds = [
            {name: cost(arguments) for name, arguments in measured.items()}
            for _ in range(_ROUNDS.value)
        ]
    print(f"{'process':28}{'wall':>11}{'all cores':>12}{'memory':>12}")
    write_json({name: show(name, [costs[name] for costs in rounds]) for name in measured})


if __name__ == "__main__":
    app.run(main)
