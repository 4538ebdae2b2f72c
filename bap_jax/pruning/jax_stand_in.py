"""`jax` with functions that older versions had, for modules that were written for these.

with standing_in(modules):    # in these modules the names of `jax` mean the stand-in
    ...
"""

import collections
import contextlib
import threading
import types
from collections.abc import Iterator

import jax


class _StandIn(types.ModuleType):
    """`jax`, with functions that older versions had."""

    def __getattr__(self, name):
        is_of_trees = name.startswith("tree_") and hasattr(jax.tree_util, name)
        return getattr(jax.tree_util if is_of_trees else jax, name)

    @staticmethod
    def tree_map(function, tree, *rest, is_leaf=None):
        """As in old versions: None in the first tree covers whatever the other trees have there."""

        def on_leaf(leaf, *others):
            is_absent = leaf is None and not (is_leaf and is_leaf(leaf))
            return None if is_absent else function(leaf, *others)

        def stops(node):
            return node is None or bool(is_leaf and is_leaf(node))

        return jax.tree.map(on_leaf, tree, *rest, is_leaf=stops)


_STAND_IN = _StandIn("jax")
_USES: collections.Counter = collections.Counter()
_LOCK = threading.Lock()


@contextlib.contextmanager
def standing_in(modules: list[types.ModuleType]) -> Iterator[None]:
    """In these modules the names of `jax` mean the stand-in; may be nested, in several threads."""
    with _LOCK:
        places = [
            (module, name)
            for module in modules
            for name, value in list(vars(module).items())
            if value is jax or value is _STAND_IN
        ]
        for module, name in places:
            _USES[module, name] += 1
            setattr(module, name, _STAND_IN)
    try:
        yield
    finally:
        with _LOCK:
            for module, name in places:
                _USES[module, name] -= 1
                if not _USES[module, name]:
                    del _USES[module, name]
                    setattr(module, name, jax)
