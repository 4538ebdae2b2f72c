"""Finds the parts of `accelerator.py` and runs them one after another."""

import importlib
import time
from collections.abc import Callable, Sequence

from accelerator_parts import table
from accelerator_parts.part import Part, Recorder, Results


def load(names: Sequence[str], known: Sequence[str]) -> list[Part]:
    """The parts called `names`, in the order of `known`; all of them if there are no names.

    A part that cannot be imported becomes one that raises that error when it runs.

    Args:
      names: of parts.
      known: modules of `accelerator_parts` that have a `PART`.

    Raises:
      ValueError: a name is unknown.
    """
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown parts {', '.join(unknown)}; known: {', '.join(known)}")
    return [_import(name) for name in known if name in names or not names]


def _import(name):
    try:
        return importlib.import_module(f"accelerator_parts.{name}").PART
    except Exception as problem:
        error = problem

    def fail(recorder):
        del recorder
        raise error

    return Part(name, f"cannot be imported: {error}", 1.0, fail)


def run(
    parts: Sequence[Part],
    results: Results,
    seconds: float,
    rounds: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Runs parts one after another; time that a part leaves is divided among those after it.

    Args:
      parts: in order.
      results: where rows go.
      seconds: for all of them.
      rounds: see `Recorder`.
      clock: returns seconds.
    """
    end = clock() + seconds
    for i, part in enumerate(parts):
        left = end - clock()
        share = part.share / sum(other.share for other in parts[i:])
        recorder = Recorder(part.name, results, clock() + left * share, rounds, clock)
        try:
            if left <= 0:
                recorder.skipped("all", f"no time left: {left:.0f} s")
            else:
                part.run(recorder)
        except Exception as error:
            recorder.failed("all", error)
        table.write(results)
