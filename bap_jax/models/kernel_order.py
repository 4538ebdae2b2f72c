"""In which order a network uses its kernels, read off its traced program.

Names do not tell: a layer called `head` sorts before one called `hidden`. The program does.
"""

import jax
from jax.extend import core

from bap_jax.models.base import Model
from bap_jax.types import Array, Variables

_USES = ("dot_general", "conv_general_dilated")


def kernel_order(model: Model, variables: Variables, inputs: Array) -> list[int]:
    """Indices into `jax.tree.leaves(variables.params)`, in order of first use by a matrix product
    or a convolution.

    Args:
      model: the network.
      variables: its arrays.
      inputs: `(batch, ...)`; only the shape matters.
    """
    leaves, structure = jax.tree.flatten(variables.params)

    def forward(leaves):
        params = jax.tree.unflatten(structure, leaves)
        return model.apply(Variables(params, variables.state), inputs, train=False)[0]

    closed = jax.make_jaxpr(forward)(leaves)
    used = []
    _walk(closed.jaxpr, dict(zip(closed.jaxpr.invars, range(len(leaves)), strict=True)), used)
    return list(dict.fromkeys(used))


def _walk(jaxpr, origin, used):
    """Follows leaves through one jaxpr. `origin` maps a variable to the one leaf it derives from."""
    for equation in jaxpr.eqns:
        known = [origin.get(v) for v in equation.invars if not isinstance(v, core.Literal)]
        sources = [source for source in known if source is not None]
        if equation.primitive.name in _USES:
            used.extend(sources)
            continue
        inner = _inner_jaxpr(equation)
        if inner is not None and len(inner.invars) == len(equation.invars):
            pairs = zip(inner.invars, equation.invars, strict=True)
            names = {i: origin[o] for i, o in pairs if not isinstance(o, core.Literal) and o in origin}
            _walk(inner, names, used)
        # A value made of one leaf alone (reshaped, cast, scaled) still stands for that leaf.
        elif len(known) == len(sources) and len(set(sources)) == 1:
            origin.update(dict.fromkeys(equation.outvars, sources[0]))


def _inner_jaxpr(equation):
    for value in equation.params.values():
        if isinstance(value, core.ClosedJaxpr):
            return value.jaxpr
        if isinstance(value, core.Jaxpr):
            return value
    return None
