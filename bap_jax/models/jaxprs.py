"""The programs inside a traced program, for modules that read what a network does."""

from collections.abc import Iterator

from jax.extend import core


def inner_jaxprs(equation: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """The programs of an equation, such as the body of a loop or the branches of a condition."""
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else [value]:
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item
