"""What a GPU would stumble over in a program, as numbers; `read_programs.py` explains them."""

from collections.abc import Sequence
from typing import Any

import programs
from operations import Operation, Value

FREE = {"broadcast_in_dim", "reshape", "iota", "convert", "slice", "tuple", "get_tuple_element"}
OUTSIDE = {"custom_call", "infeed", "outfeed", "send", "recv"}


def of_steps(found: Sequence[Operation], program: str) -> list[Operation]:
    """The operations of one step: those in the loop over steps, or all of a program `step`."""
    if program == "step":
        return list(found)
    loop = f"while:{programs.STEPS}"
    return [
        operation._replace(path=operation.path[operation.path.index(loop) + 1 :])
        for operation in found
        if loop in operation.path
    ]


def facts(found: Sequence[Operation], program: str) -> dict[str, Any]:
    """The numbers of the columns above.

    Args:
      found: operations of the whole program.
      program: its name.
    """
    step = of_steps(found, program)

    def named(*names):
        return [operation for operation in step if operation.name in names]

    sorts, scatters = named("sort"), named("scatter")
    may_repeat = [each for each in scatters if each.attributes.get("unique_indices") != "true"]
    return {
        "ops": sum(operation.name not in FREE for operation in step),
        "branches": len(named("case", "if")),
        "loops": len(named("while")),
        "sorts": [len(sorts), max((each.results[0].size for each in sorts), default=0)],
        "scatters": [len(may_repeat), len(scatters)],
        "gathers": max((each.nbytes for each in named("gather", "dynamic_slice")), default=0),
        "transposes": sum(len(each.results[0].shape) >= 4 for each in named("transpose")),
        "masks": mask_bytes(found, program),
        "metrics": sum(each.operands[1].nbytes for each in named("dynamic_update_slice")),
        "callbacks": sorted(
            each.attributes.get("call_target_name", each.name).strip('"')
            for each in found
            if each.name in OUTSIDE
        ),
        "f64": sum(value.dtype == "f64" for each in found for value in each.results),
    }


def mask_bytes(found: Sequence[Operation], program: str) -> int:
    """Bytes of uint8 arrays that a step carries on, copies or chooses between.

    Besides masks, images have this type; they are never carried.
    """
    moved = [
        *(each for each in of_steps(found, program) if each.name in ("select", "case", "while")),
        *(each for each in found if each.label == f"while:{programs.STEPS}"),
    ]
    changed = [value for each in moved for value in carried(each) if value.dtype == "ui8"]
    return sum(value.nbytes for value in changed)


def carried(operation: Operation) -> tuple[Value, ...]:
    """What an operation hands on: of a loop, only what it changes."""
    return operation.changed if operation.name == "while" else operation.results
