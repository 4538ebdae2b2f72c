"""What the dense and the sparse networks predict for every sample, and the table made from it.

    label, group       (sample,)
    split              (sample,)          position in `data.SPLITS`: training, validation, test
    dense_class        (sample,)          of the largest logit
    dense_confidence   (sample,)          its softmax, float16
    members            (member,)          names, METHOD-SPARSITY-seedSEED
    sparse_class       (member, sample)
    sparse_confidence  (member, sample)
    diverged           (member,)          whether weights are not finite
    about              ()                 JSON: settings, data, versions

Samples are in the order of the data file, training images first. This is all that is needed to ask
later, without JAX, whether a group was harmed more than the whole.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from accelerator_parts import paper_files
from bap_jax import data
from bap_jax.models import Model
from bap_jax.types import Array, Variables

FILE = "predictions.npz"
PERMUTATIONS = 200


class Predicted(NamedTuple):
    """What a network says of every sample.

    Attributes:
      classes: `(sample,)` of the largest logit.
      confidence: `(sample,)` float16, its softmax.
    """

    classes: np.ndarray
    confidence: np.ndarray


class Predict:
    """From a network's arrays to its predictions, compiled once.

    Args:
      model: the network, evaluated as it is deployed: no augmentation, running statistics.
      inputs: `(sample, ...)` of all splits.
      num_classes: length of its logits.
      batch_size: samples of a step.
    """

    def __init__(self, model: Model, inputs: Array, num_classes: int, batch_size: int = 500):
        self._inputs, size = jax.device_put(inputs), len(inputs)
        self._type = np.min_scalar_type(num_classes - 1)
        order = data.ordered_indices(size, min(batch_size, size))

        @jax.jit
        def of_all(variables, inputs):
            def of_batch(indices):
                rows = jnp.where(indices < 0, -1 - indices, indices)
                logits, _ = model.apply(variables, inputs[rows], train=False, key=None)
                return logits.argmax(-1), jax.nn.softmax(logits).max(-1).astype(jnp.float16)

            classes, confidence = jax.lax.map(of_batch, order)
            return classes.ravel()[:size], confidence.ravel()[:size]

        self._of_all = of_all

    def compile(self, variables: Variables) -> None:
        """Compiles it for arrays of these shapes and types."""
        self._of_all.lower(variables, self._inputs).compile()

    def __call__(self, variables: Variables) -> Predicted:
        """Predictions for every sample."""
        classes, confidence = jax.device_get(self._of_all(variables, self._inputs))
        return Predicted(classes.astype(self._type), confidence)


class Predictions:
    """The file of predictions; it is written anew when something is added.

    Args:
      folder: of the file; what it holds is read.
      about: settings of the dense network and of the data, as JSON holds them.

    Raises:
      UserError: it is damaged, or belongs to another dense network.
    """

    def __init__(self, folder: str | Path, about: Mapping[str, Any]):
        self._path = Path(folder) / FILE
        self.arrays: dict[str, np.ndarray] = paper_files.read_npz(self._path)
        self._about = {"dense": dict(about), "members": {}, "runs": []}
        if self.arrays:
            self._about = paper_files.read_about(self.arrays)
            paper_files.check_same(self._about["dense"], about, str(self._path))

    @property
    def members(self) -> list[str]:
        """Names of the networks that it holds."""
        return list(map(str, self.arrays.get("members", ())))

    def check_member(self, name: str, settings: Mapping[str, Any]) -> None:
        """Raises an error if the file holds this network with other settings."""
        if name in self._about["members"]:
            paper_files.check_same(self._about["members"][name], settings, f"{self._path}: {name}")

    def add_dense(
        self, labels: np.ndarray, groups: np.ndarray, split_of: np.ndarray, dense: Predicted
    ) -> None:
        """Starts the file.

        Args:
          labels, groups, split_of: `(sample,)`.
          dense: of the dense network.
        """
        self.arrays = {
            "label": labels.astype(dense.classes.dtype),
            "group": groups.astype(np.min_scalar_type(int(groups.max()))),
            "split": split_of,
            "dense_class": dense.classes,
            "dense_confidence": dense.confidence,
        }
        self._write()

    def add(
        self,
        names: Sequence[str],
        settings: Sequence[Mapping[str, Any]],
        sparse: Sequence[Predicted],
        diverged: Sequence[bool],
        run: Mapping[str, Any],
    ) -> None:
        """Adds networks.

        Args:
          names, settings, sparse, diverged: one for each.
          run: what else is worth keeping, such as versions and the device.
        """
        columns = {
            "members": np.array(names),
            "sparse_class": np.stack([one.classes for one in sparse]),
            "sparse_confidence": np.stack([one.confidence for one in sparse]),
            "diverged": np.array(diverged, bool),
        }
        for key, column in columns.items():
            old = [self.arrays[key]] if key in self.arrays else []
            self.arrays[key] = np.concatenate([*old, column])
        self._about["members"] |= dict(zip(names, settings, strict=True))
        self._about["runs"].append({**run, "members": list(names)})
        self._write()

    def _write(self):
        self.arrays["about"] = paper_files.as_about(self._about)
        paper_files.write_npz(self._path, self.arrays, compressed=True)


class Harm(NamedTuple):
    """How a sparse network compares with the dense one on a split; all in percent.

    Attributes:
      accuracy: of the sparse network.
      largest_gap: max ψ_g, how much more accuracy the worst group lost than all samples.
      flips: samples on which exactly one of the two is right.
      by_chance: mean of the largest gap when groups are permuted among samples, that is, if all
        groups were harmed alike.
    """

    accuracy: float
    largest_gap: float
    flips: float
    by_chance: float


def harm(dense_right: np.ndarray, sparse_right: np.ndarray, groups: np.ndarray) -> Harm:
    """Compares two networks on a split.

    Args:
      dense_right, sparse_right: `(sample,)` bool.
      groups: `(sample,)` ids.
    """
    lost = dense_right.astype(float) - sparse_right
    count = np.maximum(np.bincount(groups), 1)
    is_present = np.bincount(groups) > 0

    def largest_gap(groups):
        return ((np.bincount(groups, lost) / count)[is_present] - lost.mean()).max()

    rng = np.random.default_rng(0)
    chance = np.mean([largest_gap(rng.permutation(groups)) for _ in range(PERMUTATIONS)])
    values = (sparse_right.mean(), largest_gap(groups), (lost != 0).mean(), chance)
    return Harm(*(100 * float(value) for value in values))


def rows(arrays: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """For each network of a file of predictions its numbers on the training and the test split."""
    label, found = arrays["label"], []
    for i, name in enumerate(arrays.get("members", ())):
        row = {"network": str(name), "diverged": bool(arrays["diverged"][i])}
        for split in ("train", "test"):
            rows_of = arrays["split"] == data.SPLITS.index(split)
            right = [
                (classes == label)[rows_of]
                for classes in (arrays["dense_class"], arrays["sparse_class"][i])
            ]
            numbers = harm(*right, arrays["group"][rows_of])
            row |= {f"{split}_{key}": value for key, value in numbers._asdict().items()}
        found.append(row)
    return found


def table(arrays: Mapping[str, np.ndarray]) -> str:
    """The numbers of all networks as a text."""
    right = arrays["dense_class"] == arrays["label"]
    dense = {name: 100 * right[arrays["split"] == i].mean() for i, name in enumerate(data.SPLITS)}
    lines = [
        "Percent; ψ: how much more accuracy a group lost than all samples. The largest gap on the",
        "test split is mostly chance: the column beside it is what it would be on average if all",
        f"groups were harmed alike ({PERMUTATIONS} permutations of the groups).",
        "",
        f"{'network':28} {'accuracy':>15} {'train':>7} {'test':>7} {'by':>7} {'flips':>7}",
        f"{'':28} {'train':>7} {'test':>7} {'max ψ':>7} {'max ψ':>7} {'chance':>7} {'on test':>7}",
        f"{'dense':28} {dense['train']:7.2f} {dense['test']:7.2f}",
    ]
    for row in rows(arrays):
        numbers = [
            *(row["train_accuracy"], row["test_accuracy"], row["train_largest_gap"]),
            *(row["test_largest_gap"], row["test_by_chance"], row["test_flips"]),
        ]
        line = f"{row['network']:28} " + " ".join(f"{number:7.2f}" for number in numbers)
        lines.append(line + ("  diverged" if row["diverged"] else ""))
    return "\n".join(lines)
