"""What can be read from traced programs: the programs inside them, and convolutions."""

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


def is_convolution(equation: core.JaxprEqn) -> bool:
    """Whether an equation is a convolution: of `lax`, or of `bap_jax.models.convolution`."""
    names = equation.primitive.name, equation.params.get("name")
    return names[0] == "conv_general_dilated" or names[1] == "convolve_channels_last"
