"""Measures everything on an accelerator that is lent for a few minutes.

    python3 benchmarks/accelerator.py --minutes=8 --out=DIR
    python3 benchmarks/accelerator.py --list
    python3 benchmarks/accelerator.py --dry_run --only=steps,masks --out=DIR

Parts run in order of value. Each has a share of the time, and what one leaves goes to those after
it. Every number is printed and appended to DIR/results.jsonl as soon as it is there, so a command
that is killed loses only what it was measuring; DIR/table.md has all of them after every part. A
part or case that fails is reported, and the rest goes on. `--dry_run` (or `--dry-run`) has tiny
sizes, for a CPU.

    python3 benchmarks/accelerator.py --paper --data=packed.npz --minutes=9 --out=DIR

runs in place of the parts the paper's CIFAR-100 experiment, see `accelerator_parts.paper` and
`pack_images.py`. Repeated with the same folder it goes on where it was stopped or killed.

`--minutes` counts from when Python has loaded everything; leave half a minute of a limit.

Ratios are of things timed in turn in one process, after a warm-up; the order changes every round,
and a ratio is the median over rounds, with quartiles. Needs jax, flax, optax, numpy and absl, not
an installed bap_jax: the folder above this one is put on the path.
"""

import os
import sys
import tempfile
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
from absl import app, flags
from accelerator_parts import paper_flags, runner, table
from accelerator_parts.part import Results

from bap_jax import compilation
from bap_jax.errors import UserError

_MINUTES = flags.DEFINE_float("minutes", 8.0, "time for all parts, compilation included")
_OUT = flags.DEFINE_string("out", "accelerator", "folder for results.jsonl and table.md")
_ONLY = flags.DEFINE_list("only", [], "names of parts; default: all")
_LIST = flags.DEFINE_bool("list", False, "list the parts and stop")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "tiny sizes, to try the command")
_ROUNDS = flags.DEFINE_integer(
    "rounds", None, "rounds of each comparison; default: set by the part"
)

# Modules of `accelerator_parts` that have a `PART` of the same name, in order of value.
PARTS = ("steps", "epoch", "sweep", "masks", "choices", "torch_steps")


def main(argv):
    if argv[1:]:
        raise app.UsageError(f"not a flag: {' '.join(argv[1:])}")
    try:
        parts = runner.load(_ONLY.value, PARTS)
    except ValueError as error:
        raise app.UsageError(f"--only: {error}") from error
    if _LIST.value:
        for part in parts:
            print(f"{part.name:12} {part.share:4.1f}  {part.what}")
        return
    # A second command on the same machine finds what the first one compiled.
    compilation.keep_programs(
        os.environ.get("JAX_COMPILATION_CACHE_DIR")
        or f"{tempfile.gettempdir()}/bap_jax_accelerator"
    )
    results = Results(_OUT.value, _DRY_RUN.value)
    results.add("machine", "start", "ok", **machine())
    if paper_flags.PAPER.value:
        run_paper(results)
        return
    runner.run(parts, results, 60 * _MINUTES.value, _ROUNDS.value)
    print("\n" + table.short(results.rows))


def run_paper(results: Results) -> None:
    """Runs the paper's experiment as the flags describe it."""
    from accelerator_parts import paper, paper_ahead

    data, small = paper_flags.DATA.value, _DRY_RUN.value
    if not data and not small:
        raise app.UsageError("--paper needs --data=FILE, see pack_images.py; or --dry_run")

    def report(case, **numbers):
        results.add("paper", case, "ok", **numbers)

    status = 0
    try:
        paper.run(_OUT.value, _MINUTES.value, paper_flags.plan(small), data, report)
    except UserError as error:
        print(error, file=sys.stderr)
        status = 1
    except Exception:
        traceback.print_exc()
        status = 1
    if paper_ahead.is_working():  # Python would end while the compiler is at work, and crash
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def machine() -> dict:
    """Which devices there are, and how they multiply float32 matrices."""
    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    return {
        "platform": device.platform,
        "devices": jax.device_count(),
        "memory_bytes": stats.get("bytes_limit"),
        "matmul_precision": str(jax.config.jax_default_matmul_precision),
    }


if __name__ == "__main__":
    app.run(main, [word.replace("--dry-run", "--dry_run") for word in sys.argv])
