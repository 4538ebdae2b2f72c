"""The operations of a lowered program (StableHLO), with the loops and branches that they lie in.

The module is walked operation by operation; a call of a function is followed, so that a function
that is called twice counts twice. What runs on scalars within a reduction, a sort or a scatter is
part of that operation and not listed.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

BYTES = {"i1": 1, "i8": 1, "ui8": 1, "bf16": 2, "f16": 2, "f64": 8, "i64": 8, "ui64": 8}
_LOOPS = ("while", "case", "if")


class Value(NamedTuple):
    """Shape and element type of an operand or a result."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * BYTES.get(self.dtype, 4)


class Operation(NamedTuple):
    """One operation of a program.

    Attributes:
      name: without the dialect, such as `sort`.
      path: the loops and branches around it, outermost first: `while:10` is a loop of ten rounds,
        `while:?` one whose number of rounds is known only when it runs, `case` a branch.
      operands, results: their shapes and types.
      attributes: text of each attribute.
      combines: operations of its body (`add` of a scatter that adds).
      label: of a loop or a branch, what stands for it in the `path` of the operations inside.
      changed: of a loop, what its rounds hand on and do not leave as it is.
      source: where in the Python code it comes from, as JAX names it.
    """

    name: str
    path: tuple[str, ...]
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    attributes: dict[str, str]
    combines: tuple[str, ...]
    label: str
    changed: tuple[Value, ...]
    source: str

    @property
    def nbytes(self) -> int:
        """Bytes of all results."""
        return sum(value.nbytes for value in self.results)


def read(lowered: Any) -> list[Operation]:
    """All operations of a `jax.stages.Lowered`, in the order of the text."""
    module = lowered.compiler_ir(dialect="stablehlo")
    functions = {
        operation.attributes["sym_name"].value: operation
        for operation in module.body.operations
        if operation.operation.name == "func.func"
    }
    return list(_walk(functions["main"].regions[0], (), functions))


def _walk(region, path, functions) -> Iterator[Operation]:
    for block in region.blocks:
        for each in block.operations:
            operation = each.operation
            name = operation.name.split(".", 1)[1]
            if name in ("return", "constant"):
                continue
            if name == "call":
                callee = functions[operation.attributes["callee"].value]
                yield from _walk(callee.regions[0], path, functions)
                continue
            described = _describe(operation, name, path)
            yield described
            if name in _LOOPS:
                inside = (*path, described.label)
                for inner in list(operation.regions)[1 if name == "while" else 0 :]:
                    yield from _walk(inner, inside, functions)


def _describe(operation, name, path):
    combines = ()
    if name not in _LOOPS:
        combines = tuple(
            inner.operation.name.split(".", 1)[1]
            for region in operation.regions
            for block in region.blocks
            for inner in block.operations
        )
    return Operation(
        name,
        path,
        tuple(_value(operand.type) for operand in operation.operands),
        tuple(_value(result.type) for result in operation.results),
        {named.name: str(named.attr) for named in _attributes(operation)},
        tuple(inner for inner in combines if inner != "return"),
        _label(operation, name),
        _changed(operation) if name == "while" else (),
        _source(operation),
    )


def _changed(loop):
    """Types of the loop's values whose next is not the argument that they came in as."""
    body = loop.regions[1].blocks[0]
    [*_, returned] = body.operations
    pairs = zip(body.arguments, returned.operation.operands, strict=True)
    return tuple(_value(after.type) for before, after in pairs if before != after)


def _attributes(operation):
    attributes = operation.attributes
    return [attributes[i] for i in range(len(attributes))]


def _value(type_) -> Value:
    *sizes, dtype = re.sub(r"^tensor<|>$|, .*$", "", str(type_)).split("x")
    return Value(tuple(map(int, sizes)), dtype)


def _label(operation, name):
    """`while:N` if the loop compares its counter with a constant, else `while:?`; or `case`."""
    if name != "while":
        return "case" if name in _LOOPS else ""
    for block in operation.regions[0].blocks:
        for each in block.operations:
            if each.operation.name == "stablehlo.compare":
                owner = each.operation.operands[1].owner
                if getattr(owner, "name", "") == "stablehlo.constant":
                    bound = re.search(r"dense<(\d+)>", str(owner.attributes["value"]))
                    if bound:
                        return f"while:{bound[1]}"
    return "while:?"


def _source(operation):
    """`jit(step)/…/sort at file.py:12`, as far as it is known."""
    text = str(operation.location)
    name = re.search(r'loc\("([^"]*)"', text)
    return name[1] if name else ""
