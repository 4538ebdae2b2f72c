"""Records what every iterate of a run predicts, so that rules of selection are compared offline.

    python benchmarks/record_iterates.py --config=experiments/digits.py --splits=10 \\
        --methods=nft,ceag --sparsities=0.95,0.98 --recordings=DIR

Every split has its own validation part, its own dense network, its own seed, and, where the test
part is drawn at random, its own test part. A run is written to DIR/NAME.npz, NAME saying what it
is; a run whose file is there is left out, so that a recorder that was stopped goes on where it was.

Arrays of a file, class ids as uint8; SPLIT is `train`, `validation` or `test`:

    SPLIT_label       (sample,)
    SPLIT_group       (sample, attribute) group ids
    SPLIT_dense       (sample,) what the dense network predicts
    SPLIT_last        (sample,) what the network after the last epoch predicts
    SPLIT_average     (sample,) what the average of the last third of fine-tuning predicts
    SPLIT_iterates    (epoch, sample) what the network after each epoch of fine-tuning predicts; not
                      of `train`
    epochs            (epoch,) their numbers
    group_names, config, average_first_epoch

The average has the masks of the last epoch, the mean of the weights, and batch statistics that are
computed anew: the mean over the batches of the training split.
"""

import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from runs import make_context, share_compiled_programs

from bap_jax import config as config_lib
from bap_jax import data, pipeline
from bap_jax.data.batches import epoch_indices, feed, gather, ordered_indices
from bap_jax.models.batch_norm import BatchNorm
from bap_jax.training.members import StepBlock, member_state
from bap_jax.types import Variables

_CONFIG = config_flags.DEFINE_config_file("config", None, "experiment file", lock_config=True)
_METHODS = flags.DEFINE_list("methods", ["nft", "ceag"], "methods to run")
_SPARSITIES = flags.DEFINE_list("sparsities", ["0.95"], "target sparsities")
_SPLITS = flags.DEFINE_integer("splits", 10, "number of data splits, each with a dense network")
_FIRST = flags.DEFINE_integer("first_split", 0, "the first of them")
_RECORDINGS = flags.DEFINE_string("recordings", None, "folder of the files")
JUDGED = ("validation", "test")


class Predictor:
    """Predictions of networks on the splits of a context.

    Args:
      context: dense network and data.
    """

    def __init__(self, context: pipeline.RunContext):
        self._context = context
        self._data = {name: data.on_device(getattr(context.splits, name)) for name in data.SPLITS}
        model = context.model

        @jax.jit
        def classes(variables, samples, indices):
            batch, _ = gather(samples, indices)
            logits, _ = model.apply(variables, batch.inputs, train=False, key=None)
            return logits.argmax(-1).astype(jnp.uint8)

        @jax.jit
        def updated_statistics(variables, samples, indices, key):
            batch, _ = gather(samples, indices)
            return model.apply(variables, batch.inputs, train=True, key=key)[1]

        self._classes, self._updated_statistics = classes, updated_statistics

    def __call__(self, variables: Variables, name: str) -> np.ndarray:
        """`(sample,)` uint8 class ids on the split called `name`."""
        samples = self._data[name]
        order = ordered_indices(samples.size, min(512, samples.size))
        batches = [self._classes(variables, *pair) for pair in feed(samples, order)]
        return np.concatenate(jax.device_get(batches))[: samples.size]

    def with_new_statistics(self, variables: Variables, batch_size: int) -> Variables:
        """The network with the mean of the batch statistics over the training split.

        A forward pass moves a statistic s to m s + (1 − m) b, b that of the batch, so the mean b is
        (mean of what the passes return − m s) / (1 − m).
        """
        if not jax.tree.leaves(variables.state):
            return variables
        key, samples, momentum = jax.random.key(0), self._data["train"], BatchNorm.momentum
        order = epoch_indices(key, samples.size, batch_size)
        updates = [
            self._updated_statistics(variables, *pair, jax.random.fold_in(key, step))
            for step, pair in enumerate(feed(samples, order))
        ]
        state = jax.tree.map(
            lambda old, *new: (sum(new) / len(new) - momentum * old) / (1 - momentum),
            variables.state,
            *updates,
        )
        return variables._replace(state=state)


def record_run(context: pipeline.RunContext, predict: Predictor, settings) -> dict[str, np.ndarray]:
    """Runs one member and returns the arrays of its file, without data and dense network.

    Raises:
      FloatingPointError: the run diverged.
    """
    tuner = pipeline.make_tuner(context, settings)
    compiled, runner = tuner.compiled, tuner.runner
    values = compiled.values([settings])
    states = runner.init(values, compiled.shared, context.variables)
    numbers = range(settings.epochs)
    averaged = max(round((settings.epochs - settings.pruning.epochs) / 3), 1)
    iterates, epochs, total, last = {name: [] for name in JUDGED}, [], None, None
    for event in runner.run(states, values, compiled.shared, compiled.train, numbers):
        if isinstance(event, StepBlock) or event.epoch < settings.pruning.epochs:
            continue
        if not event.is_finite[0]:
            raise FloatingPointError(f"the run diverged in epoch {event.epoch}")
        last = member_state(event.states, 0)
        for name in JUDGED:
            iterates[name].append(predict(last.variables, name))
        epochs.append(event.epoch)
        if event.epoch >= settings.epochs - averaged:
            summed = jax.tree.map(np.asarray, last.params)
            total = summed if total is None else jax.tree.map(np.add, total, summed)
    mean = jax.tree.map(lambda leaf: leaf / averaged, total)
    network = last._replace(params=mean).variables
    average = predict.with_new_statistics(network, settings.batch_size)
    arrays = {f"{name}_iterates": np.stack(iterates[name]) for name in JUDGED}
    for name in data.SPLITS:
        arrays[f"{name}_last"] = predict(last.variables, name)
        arrays[f"{name}_average"] = predict(average, name)
    first = np.array(settings.epochs - averaged)
    return {**arrays, "epochs": np.array(epochs), "average_first_epoch": first}


def data_arrays(context: pipeline.RunContext, predict: Predictor) -> dict[str, np.ndarray]:
    """The arrays of a file that all runs of one dense network share."""
    arrays = {"group_names": np.array(context.splits.group_names)}
    for name in data.SPLITS:
        split = getattr(context.splits, name)
        arrays[f"{name}_label"] = np.asarray(split.labels, np.uint8)
        arrays[f"{name}_group"] = np.asarray(split.group_ids, np.int32)
        arrays[f"{name}_dense"] = predict(context.variables, name)
    return arrays


def on_split(config, index: int):
    """The config with a validation part, a dense network and a seed of its own."""
    config = config.copy_and_resolve_references()
    config.seed = config.dense.seed = config.data.split_seed = index
    if config.data.test_fraction:
        config.data.test_seed = index
    return config


def record_split(config, index: int, folder: Path) -> None:
    """Records the runs of one split that are not recorded yet."""
    config = on_split(config, index)
    wanted = {}
    for sparsity in _SPARSITIES.value:
        for method in _METHODS.value:
            name = f"{config.data.name}_{sparsity}_{method}_{index}"
            if not (folder / f"{name}.npz").exists():
                wanted[name] = (float(sparsity), method)
    if not wanted:
        return
    start = time.perf_counter()
    context = make_context(config.to_json())
    make_context.cache_clear()
    predict = Predictor(context)
    shared = data_arrays(context, predict)
    print(f"dense network {index}: {time.perf_counter() - start:.0f} s", flush=True)
    for name, (sparsity, method) in wanted.items():
        start = time.perf_counter()
        config.pruning.sparsity, config.method = sparsity, method
        plain = config_lib.to_plain(config)
        try:
            arrays = record_run(context, predict, config_lib.to_settings(plain))
        except FloatingPointError as error:
            print(f"{name}: {error}", flush=True)
            continue
        file = folder / f".{name}.npz"
        np.savez_compressed(file, config=np.array(json.dumps(plain)), **arrays, **shared)
        file.rename(folder / f"{name}.npz")
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


def main(argv):
    del argv
    share_compiled_programs()
    folder = Path(_RECORDINGS.value)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(_FIRST.value, _FIRST.value + _SPLITS.value):
        record_split(_CONFIG.value, index, folder)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "recordings"])
    app.run(main)
