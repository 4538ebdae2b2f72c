"""Times our training step and that of the paper in PyTorch in turn, and checks that they agree."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import timing
from torch_cases import OURS, Case, make_arrays
from torch_sides import Ours, Theirs, as_ours, import_torch, make_model, make_network

from bap_jax.trees import leaves_by_path

LARGEST_DIFFERENCE = 1e-4


class Comparison:
    """Our step and epoch of a case, compiled once, to be timed beside forms of PyTorch's step.

    Args:
      case: what is timed.
      method: `nft` or `ceag`.
    """

    def __init__(self, case: Case, method: str):
        self.case, self.method = case, method
        self._arrays = make_arrays(case)
        variables = as_ours(case, make_network(case)[0])
        self._ours = Ours(case, method, self._arrays, variables)

    def runs(self, forms: Sequence[str]) -> dict[str, Callable[[], Any]]:
        """Functions that train on all batches: `step`, `epoch`, and one for each form.

        All have been called once, after which everything is compiled.

        Args:
          forms: keys of `torch_cases.FORMS`.
        """
        runs = {"step": self._ours.run_steps, "epoch": self._ours.run_epoch}
        for form in forms:
            runs[form] = Theirs(self.case, self.method, self._arrays, form).run_steps
        for run in runs.values():
            run()
        return runs

    def measure(self, forms: Sequence[str]) -> dict[str, dict[str, float]]:
        """Times both sides in turn.

        Returns:
          For every pair `step/<form>` and `epoch/<form>` the seconds of ours over PyTorch's,
          `ratio`, with its quartiles, and the median milliseconds of a step, `ms` and `against_ms`.
        """
        seconds = timing.interleaved(self.runs(forms), self.case.rounds)
        rows = {}
        for own, form in pairs_of(forms):
            row = timing.against_each_other(seconds[own], seconds[form])
            per_step = {name: row[name] / self.case.steps for name in ("ms", "against_ms")}
            rows[f"{own}/{form}"] = row | per_step
        return rows


def pairs_of(forms: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of ours and of PyTorch's."""
    return [(own, form) for form in forms for own in OURS]


def versions() -> dict[str, str]:
    """Of both libraries."""
    return {"jax": jax.__version__, "torch": import_torch()[0].__version__}


def agree(apart: dict[str, float]) -> bool:
    """Whether all `differences` are at most 1e-4; NaN is not."""
    return all(number <= LARGEST_DIFFERENCE for number in apart.values())


def differences(case: Case, method: str, form: str = "eager") -> dict[str, float]:
    """How far both sides are apart after the same two steps from the same weights and buffers.

    Normalisation is the plain one on both sides, and multipliers grow to the size of the loss, so
    that a wrong one would show in the weights.

    Returns:
      Largest absolute difference of the `logits` before the steps, of `loss` and `accuracy` of the
      second one, of the `masks`, and for CEAG of the `lagrangian`; largest difference of the
      `weights` (running statistics included) and for CEAG of the `multipliers` after the steps,
      over how far the steps moved them.
    """
    case = case._replace(steps=2, primal_rate=0.1, dual_rate=1.0, masked_norm=False)
    arrays = make_arrays(case)
    network, masks = make_network(case)
    before = as_ours(case, network)
    ours, theirs = Ours(case, method, arrays, before), Theirs(case, method, arrays, form)
    found = {"logits": _logits_apart(case, arrays, before, theirs)}
    numbers = theirs.run_steps()[-1]
    own = [ours.step(ours.train, indices, jnp.int32(0))[1] for indices in ours.orders][-1]
    for name, number in numbers.items():
        found[name] = abs(float(getattr(own, name)) - number)
    after = ours.step.state.variables
    found["weights"] = _apart(as_ours(case, theirs.network), after) / _apart(before, after)
    network.load_state_dict({**network.state_dict(), **masks})
    found["masks"] = _masks_apart(as_ours(case, network), ours.step.state.masks)
    if method == "ceag":
        multipliers = ours.step.state.lagrangian.dual.multipliers
        expected = jnp.asarray(theirs.step.multipliers.detach().cpu().numpy())
        found["multipliers"] = _apart(expected, multipliers) / float(multipliers.max())
    return found


def _logits_apart(case, arrays, variables, theirs):
    """Largest difference of the logits of all samples, normalised by their own statistics."""
    torch, _ = import_torch()
    logits, _ = make_model(case).apply(variables, jnp.asarray(arrays.inputs), train=True, key=None)
    network = copy.deepcopy(theirs.network)  # running statistics move
    with torch.no_grad():
        expected = network(theirs.train.inputs).cpu().numpy()
    return _apart(jnp.asarray(expected), logits)


def _apart(one, other):
    """Largest absolute difference of two trees of arrays."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(jnp.abs(a - b).max()) for a, b in pairs)


def _masks_apart(expected, masks):
    """Masks in the place of weights against ours."""
    expected, masks = leaves_by_path(expected.params), leaves_by_path(masks)
    return max(_apart(expected[path], mask) for path, mask in masks.items())
