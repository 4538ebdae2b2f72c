"""jaxpruner's golden cases: found in the file, read from their names, run with any library.

A name tells its settings, in any order and with any numbers: `block_4_8_max_0.75`,
`magnitude_poly_erk_start3_end20_freq4`. What it leaves out is as in the defaults below; what no
pattern below matches is an error that names it.
"""

import ast
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
# Parts of a case's name, each between underscores or at an end of it.
PATTERNS = {
    "nbym": r"nbym_(\d+)_(\d+)(?:_axis(-?\d+))?",
    "block": r"block_(\d+)_(\d+)",
    "channel": r"channel(?:_axis(-?\d+))?",
    "pooling": r"(avg|max)",
    "global": r"global",
    "nonorm": r"nonorm",
    "magnitude": r"magnitude",
    "distribution": r"(uniform|erk)",
    "target": r"(?:target|sparsity)_?(\d*\.?\d+)|(\d*\.\d+)",
    "oneshot": r"oneshot_?(\d+)",
    "no_update": r"no_update(?:_schedule)?",
    **{key: rf"{key}_?(\d+)" for key in SCHEDULE},
    "sparse_gradients": r"sparse_grad[a-z]*",
    "skip_gradients": r"skip_grad[a-z]*",
}
RESULTS = ("mask", "masked", "target", "packed_mask", "summarize_sparsity")


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


def tree_cases(result):
    """Cases on trees for which the file holds `result`, one of `RESULTS`."""
    return names(rf"(trees/[^/]+/[^/]+)/{result}/")


def error_cases():
    """Cases that made jaxpruner raise, on trees whose parameters are in the file."""
    return [case for case in sorted(ERRORS) if params_of(case)]


def train_cases():
    return names(r"(train/[^/]+)/step\d+/")


def schedule_tags():
    return names(r"schedule/([^/]+)/step$")


def kinds():
    """Everything in the file, by kind."""
    trees = {result: tree_cases(result) for result in RESULTS}
    raw = names(r"(trees/[^/]+/[^/]+_rawmask)/")
    rest = {"errors": error_cases(), "train": train_cases(), "schedule": schedule_tags()}
    return {**trees, **rest, "rawmask": raw, "rounding": names(r"(rounding)/")}


def read(tag):
    """What a tag, or the last piece of a case's name, says: groups of the patterns that match.

    Other words describe a case (`phase`); numbers and names of algorithms have to be applied.

    Raises:
      AssertionError: a part is one of these and matches no pattern.
    """
    left, found = tag.rsplit("/", 1)[-1], {}
    for key, pattern in PATTERNS.items():
        if match := re.search(rf"(?:^|_)(?:{pattern})(?=_|$)", left):
            found[key] = match.groups()
            left = left[: match.start()] + left[match.end() :]
    names = {word for name in pruning.ALGORITHM_REGISTRY for word in name.split("_")}
    words = [word for word in left.split("_") if word in names or re.search(r"\d", word)]
    assert not words, f"{tag}: unknown setting {', '.join(f'`{word}`' for word in words)}"
    return found


def tree_updater(library, case, **options):
    """The updater of a case on a tree.

    Args:
      library: `bap_jax.pruning`, or jaxpruner.
      case: `trees/<tree>/<case>`.
    """
    return _updater(library, case, TREE_SPARSITY, **options)


def train_updater(library, case):
    """The updater of `train/<tag>`."""
    found = read(case)
    options = {
        "scheduler": schedule(library, case),
        "is_sparse_gradients": "sparse_gradients" in found,
        "skip_gradients": "skip_gradients" in found,
    }
    return _updater(library, case, TRAIN_SPARSITY, **options)


def schedule(library, tag):
    """The schedule that a tag tells; ours by jaxpruner's rule."""
    found = read(tag)
    if "oneshot" in found:
        return library.OneShotSchedule(int(found["oneshot"][0]))
    if "no_update" in found:
        return library.NoUpdateSchedule()
    values = {key: int(found.get(key, (value,))[0]) for key, value in SCHEDULE.items()}
    rule = {"aligned": False} if library is pruning else {}
    return library.PolynomialSchedule(
        values["freq"], values["start"], values["end"], power=values["power"], **rule
    )


def target(tag, default):
    """The sparsity that a tag tells: after `target`, or a fraction."""
    named, bare = read(tag).get("target", (None, None))
    return float(named or bare or default)


def sparsity_type(library, tag):
    """The shape that a tag tells."""
    types, found = library.sparsity_types, read(tag)
    if "nbym" in found:
        n, m, axis = found["nbym"]
        return types.NByM(int(n), int(m), int(axis or -1))
    if "block" in found:
        rule = {"leading": True} if library is pruning else {}
        shape = tuple(map(int, found["block"]))
        return types.Block(shape, found.get("pooling") != ("max",), **rule)
    if "channel" in found:
        return types.Channel(int(found["channel"][0] or -1))
    return types.Unstructured()


def _updater(library, tag, sparsity, **options):
    sparsity, found = target(tag, sparsity), read(tag)
    options["sparsity_type"] = sparsity_type(library, tag)
    if "global" in found:
        options |= {"sparsity": sparsity, "use_normalization": "nonorm" not in found}
        return library.GlobalMagnitudePruning(**options)
    distributions = library.sparsity_distributions
    distribution = getattr(distributions, found.get("distribution", ("uniform",))[0])
    options["sparsity_distribution_fn"] = functools.partial(distribution, sparsity=sparsity)
    return library.MagnitudePruning(**options)


@functools.cache
def training():
    """Inner optimiser and number of steps, as the manifest's part `train` writes them.

    Raises:
      AssertionError: the manifest has a setting that is not known, or a value that is not.
    """
    layers = len(names(r"train/init/([^/]+)/kernel"))
    products = ", relu, ".join(f"@ Dense_{i}.kernel + bias" for i in range(layers))
    known = {
        "full_batch": len(ARRAYS["train/x"]),
        "loop": "grads at masked params -> tx.update(grads, state, params) -> "
        "optax.apply_updates -> pruner.post_gradient_update(params, state)",
        "loss": "mean softmax cross entropy",
        "model": f"x {products}",
    }
    with golden_files.Settings("manifest/train", MANIFEST.get("train", {})) as settings:
        for key, value in known.items():
            given = settings.take(key, value)
            assert given == value, f"manifest/train: unknown setting `{key}` = {given!r}"
        record = settings.take("record", "after step k")  # which ones: the arrays' names tell
        assert record.startswith("after step k"), f"manifest/train: unknown `record` = {record!r}"
        return optimizer(settings.take("optimizer")), settings.take("steps")


def optimizer(text):
    """An optax optimiser from its call, such as `optax.sgd(0.1, momentum=0.9)`.

    Raises:
      AssertionError: it is no call of an optimiser that optax has.
    """
    match = re.fullmatch(r"optax\.(\w+)\((.*)\)", text)
    assert match and hasattr(optax, match[1]), f"unknown optimizer `{text}`"
    call = ast.parse(text, mode="eval").body
    options = {option.arg: ast.literal_eval(option.value) for option in call.keywords}
    return getattr(optax, match[1])(*map(ast.literal_eval, call.args), **options)


def trajectory(updater, steps):
    """Parameters and optimiser state before each of `steps` steps and after the last, and losses.

    Yields:
      `(params, opt_state, loss)`.
    """
    tx, params = updater.wrap_optax(training()[0]), jax.tree.map(jnp.asarray, tree("train/init"))
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
    steps = training()[1]
    assert max([*recorded, len(losses), len(kept)]) <= steps
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
