"""A command from start to exit: with nothing kept, with programs kept, and with the network, too.

    python benchmarks/start.py --config=experiments/digits.py --rounds=3 --json=FILE

    --against=FOLDER   another checkout of this repository, timed in turn with this one

Every run is a process of its own. Then a table of the programs that the first one compiled.
Cost: about half a minute a round for the digits on two cores.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import timing
from absl import app
from absl import flags as absl_flags

_CONFIG = absl_flags.DEFINE_string("config", "experiments/digits.py", "experiment file")
_OPTIONS = absl_flags.DEFINE_multi_string("option", [], "a further flag of the command")
_ROUNDS = absl_flags.DEFINE_integer("rounds", 3, "how often each kind of start is timed")
_AGAINST = absl_flags.DEFINE_string("against", None, "another checkout, timed in turn")
_JSON = absl_flags.DEFINE_string("json", None, "file to write the numbers to")

ROOT = Path(__file__).resolve().parents[1]
STATES = ("nothing", "programs", "programs_and_dense")
# What the process of a run does: the command, with an eye on what JAX compiles.
_RUN = """
import atexit, json, runpy, sys
import jax

path, events = sys.argv.pop(1), []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **about: events.append((name, about.get("fun_name", ""), seconds))
)
jax.monitoring.register_event_listener(lambda name, **about: events.append((name, "", 0.0)))
atexit.register(lambda: json.dump(events, open(path, "w")))
runpy.run_module("bap_jax.main", run_name="__main__", alter_sys=True)
"""
_COMPILE = "/jax/core/compile/backend_compile_duration"
_TRACE = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
)
_MISS = "/jax/compilation_cache/cache_misses"


def run(root: Path, folder: Path, workdir: str) -> dict[str, Any]:
    """One command in a new process: its seconds, those of its cores, and JAX's events."""
    events = folder / "events.json"
    command = [sys.executable, "-c", _RUN, str(events), f"--config={_CONFIG.value}"]
    command += [f"--workdir={folder / workdir}", f"--compilation_cache={folder / 'programs'}"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [*command, *_OPTIONS.value],
        check=True,
        stdout=subprocess.PIPE,
        cwd=root,
        env=environment,
    )
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": used, "events": json.loads(events.read_text())}


def one_round(root: Path) -> dict[str, dict[str, Any]]:
    """A command with nothing kept, then with its programs, then with its dense network as well."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = run(root, folder, "first")
        second = run(root, folder, "second")
        third = run(root, folder, "second")
    return dict(zip(STATES, (first, second, third), strict=True))


def programs(events: list) -> list[dict[str, Any]]:
    """Name, count and seconds of the programs that a run compiled, the longest first."""
    rows: dict[str, dict[str, Any]] = {}
    for event, name, seconds in events:
        if event != _COMPILE and event not in _TRACE:
            continue
        name = name.removeprefix("jit(").removesuffix(")")
        row = rows.setdefault(name, {"name": name, "count": 0, "compile": 0.0, "trace": 0.0})
        row["count"] += event == _COMPILE
        row["compile" if event == _COMPILE else "trace"] += seconds
    return sorted(rows.values(), key=lambda row: -row["compile"] - row["trace"])


def show_programs(rows: list[dict[str, Any]], longest: int = 12) -> None:
    """Prints the table, and the sum of its rows."""
    print(f"{'program':>24} {'count':>6} {'compile s':>10} {'trace s':>8}")
    total = {key: sum(row[key] for row in rows) for key in ("count", "compile", "trace")}
    for row in [*rows[:longest], {"name": "all", **total}]:
        print(f"{row['name']:>24} {row['count']:6} {row['compile']:10.2f} {row['trace']:8.2f}")


def summarize(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Median seconds and compiled programs of each kind of start."""
    return {
        state: {
            **{key: float(np.median([one[state][key] for one in rounds])) for key in _KEYS},
            "compiled": sum(name == _MISS for name, *_ in rounds[0][state]["events"]),
        }
        for state in STATES
    }


_KEYS = ("seconds", "cpu_seconds")


def main(argv: list[str]) -> None:
    """Measures, prints and writes."""
    del argv
    roots = {"here": ROOT}
    if _AGAINST.value:
        roots["against"] = Path(_AGAINST.value).resolve()
    rounds: dict[str, list] = {name: [] for name in roots}
    for i in range(_ROUNDS.value):
        for name in list(roots) if i % 2 == 0 else reversed(roots):
            rounds[name].append(one_round(roots[name]))
            row = {state: round(rounds[name][-1][state]["seconds"], 2) for state in STATES}
            print(name, row, flush=True)
    numbers: dict[str, Any] = {name: summarize(of_root) for name, of_root in rounds.items()}
    for name, rows in numbers.items():
        for state, row in rows.items():
            print(
                f"{name:>8} kept: {state:20} {row['seconds']:6.2f} s, {row['cpu_seconds']:6.2f} s "
                f"of all cores, {row['compiled']} programs compiled"
            )
    if _AGAINST.value:
        numbers["ratios"] = _ratios(rounds)
    numbers["programs"] = programs(rounds["here"][0]["nothing"]["events"])
    show_programs(numbers["programs"])
    timing.write_json(_JSON.value, numbers)


def _ratios(rounds):
    """This checkout's seconds over the other's, one pair a round."""
    result = {}
    for state in STATES:
        for key in _KEYS:
            here, other = ([one[state][key] for one in rounds[name]] for name in rounds)
            row = timing.ratios(here, other)
            result[f"{state}_{key}"] = row
            print(
                f"{state:>20} {key:12} {row['ratio']:.2f} of the other's "
                f"({row['lower_quartile']:.2f} – {row['upper_quartile']:.2f})"
            )
    return result


if __name__ == "__main__":
    app.run(main)
