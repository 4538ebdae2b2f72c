"""jaxpruner's golden cases: found in the file, read from their names, run with any library.

A name tells its settings, in any order and with any numbers: `block_4_8_max_0.75`,
`magnitude_poly_erk_start3_end20_freq4`. What it leaves out is as in the defaults below.
"""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bap_jax import pruning
from tests import golden_files

ARRAYS, MANIFEST = golden_files.jaxpruner()
CASES, ERRORS = MANIFEST.get("cases", []), MANIFEST.get("errors", {})
SCHEDULE = {"freq": 2, "start": 2, "end": 14, "power": 3}
TREE_SPARSITY, TRAIN_SPARSITY = 0.5, 0.9
SPLITS = ("mask", "masked", "target", "packed_mask", "summarize_sparsity")


def names(pattern):
    """What the group of `pattern` matches at the beginning of array names, sorted."""
    return sorted({match[1] for match in map(re.compile(pattern).match, ARRAYS) if match})


def tree(prefix):
    """Nested dicts of the arrays below `prefix/`."""
    found = {}
    for name in names(rf"{re.escape(prefix)}/(.*)"):
        *path, last = name.split("/")
        node = functools.reduce(lambda node, key: node.setdefault(key, {}), path, found)
        node[last] = ARRAYS[f"{prefix}/{name}"]
    return found


def by_path(nested):
    """`{path: leaf}`, None included."""
    flat, _ = jax.tree_util.tree_flatten_with_path(nested, is_leaf=lambda leaf: leaf is None)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def params_of(case):
    """Parameters of the tree that a case belongs to."""
    return jax.tree.map(jnp.asarray, tree(f"{case.rsplit('/', 1)[0]}/params"))


def tree_cases(part):
    """Cases on trees for which the file holds `part`, one of `SPLITS`."""
    return names(rf"(trees/[^/]+/[^/]+)/{part}/")


def error_cases():
    """Cases that made jaxpruner raise, on trees whose parameters are in the file."""
    return [case for case in sorted(ERRORS) if params_of(case)]


def train_cases():
    return names(r"(train/[^/]+)/step\d+/")


def schedule_tags():
    return names(r"schedule/([^/]+)/step$")


def kinds():
    """Everything in the file, by kind."""
    parts = {part: tree_cases(part) for part in SPLITS}
    raw = names(r"(trees/[^/]+/[^/]+_rawmask)/")
    rest = {"errors": error_cases(), "train": train_cases(), "schedule": schedule_tags()}
    return {**parts, **rest, "rawmask": raw, "rounding": names(r"(rounding)/")}


def tree_updater(library, case, **options):
    """The updater of a case on a tree.

    Args:
      library: `bap_jax.pruning`, or jaxpruner.
      case: `trees/<tree>/<case>`.
    """
    return _updater(library, case.rsplit("/", 1)[1], TREE_SPARSITY, **options)


def train_updater(library, case):
    """The updater of `train/<tag>`."""
    tag = case.rsplit("/", 1)[1]
    options = {
        "scheduler": schedule(library, tag),
        "is_sparse_gradients": "sparse_grad" in tag,
        "skip_gradients": "skip_grad" in tag,
    }
    return _updater(library, tag, TRAIN_SPARSITY, **options)


def schedule(library, tag):
    """The schedule that a tag tells; ours by jaxpruner's rule."""
    if match := re.search(r"oneshot_?(\d+)", tag):
        return library.OneShotSchedule(int(match[1]))
    if "no_update" in tag:
        return library.NoUpdateSchedule()
    found = dict(re.findall(r"(start|end|freq|power)_?(\d+)", tag))
    values = {**SCHEDULE, **{name: int(value) for name, value in found.items()}}
    rule = {"aligned": False} if library is pruning else {}
    return library.PolynomialSchedule(
        values["freq"], values["start"], values["end"], power=values["power"], **rule
    )


def target(tag, default):
    """The sparsity that a tag tells: after `target`, or a fraction at the end."""
    match = re.search(r"(?:target|sparsity)_?(\d*\.?\d+)", tag) or re.search(r"_(\d*\.\d+)$", tag)
    return float(match[1]) if match else default


def sparsity_type(library, tag):
    """The shape that a tag tells."""
    types = library.sparsity_types
    if match := re.search(r"nbym_(\d+)_(\d+)(?:_axis(-?\d+))?", tag):
        n, m, axis = match.groups("-1")
        return types.NByM(int(n), int(m), int(axis))
    if match := re.search(r"block_(\d+)_(\d+)", tag):
        rule = {"leading": True} if library is pruning else {}
        return types.Block((int(match[1]), int(match[2])), "_max" not in tag, **rule)
    if match := re.search(r"channel(?:_axis(-?\d+))?", tag):
        return types.Channel(int(match[1] or -1))
    return types.Unstructured()


def _updater(library, tag, sparsity, **options):
    sparsity = target(tag, sparsity)
    options["sparsity_type"] = sparsity_type(library, tag)
    if "global" in tag:
        options |= {"sparsity": sparsity, "use_normalization": "nonorm" not in tag}
        return library.GlobalMagnitudePruning(**options)
    distributions = library.sparsity_distributions
    distribution = distributions.erk if "erk" in tag else distributions.uniform
    options["sparsity_distribution_fn"] = functools.partial(distribution, sparsity=sparsity)
    return library.MagnitudePruning(**options)


def optimizer():
    """The inner optimiser, as the manifest writes it."""
    found = re.fullmatch(r"optax\.sgd\((.*), momentum=(.*)\)", MANIFEST["train"]["optimizer"])
    return optax.sgd(float(found[1]), momentum=float(found[2]))


def trajectory(updater, steps):
    """Parameters and optimiser state before each of `steps` steps and after the last, and losses.

    Yields:
      `(params, opt_state, loss)`.
    """
    tx, params = updater.wrap_optax(optimizer()), jax.tree.map(jnp.asarray, tree("train/init"))
    opt_state = tx.init(params)

    def loss_fn(params, opt_state):
        params = updater.pre_forward_update(params, opt_state)
        logits = _mlp(params, ARRAYS["train/x"])
        labels = ARRAYS["train/y"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params, opt_state):
        loss, grads = jax.value_and_grad(loss_fn)(params, opt_state)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        return updater.post_gradient_update(params, opt_state), opt_state, loss

    for _ in range(steps + 1):
        after = step(params, opt_state)
        yield params, opt_state, after[2]
        params, opt_state, _ = after


def _mlp(params, hidden):
    for number in itertools.count():
        layer = params[f"Dense_{number}"]
        hidden = hidden @ layer["kernel"] + layer["bias"][None]
        if f"Dense_{number + 1}" not in params:
            return hidden
        hidden = jax.nn.relu(hidden)


def assert_same_leaves(got, prefix):
    """Exactly the arrays below `prefix/`, and None where the manifest says so."""
    got, want = by_path(got), by_path(tree(prefix))
    for path, leaf in want.items():
        np.testing.assert_array_equal(got[path], leaf, err_msg=f"{prefix}/{path}")
    assert {path for path in got if got[path] is not None} == set(want)
    absent = MANIFEST.get("none_masks", {}).get(prefix)
    if absent is not None:
        assert {path for path in got if got[path] is None} == set(absent)


def assert_trains_alike(updater, case):
    """Whatever the file holds of `train/<tag>`: recorded steps, losses, kept counts."""
    losses = ARRAYS.get(f"{case}/loss_before_step", ())
    kept = ARRAYS.get(f"{case}/kept_after_step", ())
    recorded = [int(number) for number in names(rf"{re.escape(case)}/step(\d+)/")]
    steps = max([*recorded, len(losses), len(kept)])
    for k, (params, state, loss) in enumerate(trajectory(updater, steps)):
        if k < len(losses):
            np.testing.assert_allclose(loss, losses[k], atol=1e-6)
        if 0 < k <= len(kept):
            sizes = [int(mask.sum()) for mask in jax.tree.leaves(state.masks)]
            np.testing.assert_array_equal(sizes, kept[k - 1])
        if k in recorded:
            _assert_step(f"{case}/step{k:02d}", params, state)


def _assert_step(prefix, params, state):
    momentum = optax.tree.get(state.inner_state, "trace")
    for name, got in (("params", params), ("momentum", momentum)):
        want = tree(f"{prefix}/{name}")
        assert jax.tree.structure(got) == jax.tree.structure(want)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-6), got, want)
    assert_same_leaves(state.masks, f"{prefix}/masks")
    assert int(state.count) == int(ARRAYS[f"{prefix}/count"])
