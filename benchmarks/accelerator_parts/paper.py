"""The paper's CIFAR-100 run: a dense ResNet-56, then sparse ones under several methods.

    array file ─► dense network ─► predictions ─► for each method its networks ─► predictions, table

Label and groups are the fine classes. The dense network is trained for 60 epochs with crops and
flips; the settings of pruning and tuning are those of experiments/cifar100.py. All networks of a
method, every sparsity with every seed, are members of one program. The last iterate is what is
kept and reported: its predictions on every split, see `paper_predictions`.

In the folder of results:

    dense.npz         the dense network
    predictions.npz   see `paper_predictions`
    state-0.npz …     of the program that is not finished, see `paper_files`

The same command with the same folder goes on where it was stopped or killed, on another machine if
need be; it loses what came after the last save. What it then computes is bit for bit what it would
have computed without the break, provided that the device computes the same twice. On a GPU this
takes XLA_FLAGS=--xla_gpu_deterministic_ops=true; without it, two runs differ in rounding anyway.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from accelerator_parts import paper_data, paper_files, paper_predictions, paper_programs
from accelerator_parts.paper_ahead import CompiledAhead
from accelerator_parts.paper_plan import Plan
from accelerator_parts.paper_predictions import Predictions
from accelerator_parts.paper_programs import Pace, print_now
from bap_jax import pipeline, reporting
from bap_jax.errors import UserError
from bap_jax.training import Execution, Settings, finite
from bap_jax.types import Variables

DENSE_FILE = "dense.npz"


def run(
    out: str | Path,
    minutes: float,
    plan: Plan,
    data_file: str = "",
    report: Callable[..., object] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Runs the plan, or as much of it as there is time for; the same call again goes on.

    Args:
      out: folder of results.
      minutes: for everything, compilation included.
      plan: what is run.
      data_file: array file, packed or not; empty for made-up images.
      report: takes the name of a finished network and, as keywords, its numbers.
      clock: returns seconds.

    Returns:
      Whether everything is finished.

    Raises:
      UserError: the file cannot be read, or the folder holds results of other settings.
    """
    deadline = clock() + 60 * minutes
    for method in plan.methods:
        plan.networks(method)  # a mistake in the plan is found before data are read
    images = paper_data.load(data_file) if data_file else paper_data.made_up()
    pace = Pace(deadline, plan.save_seconds, plan.start_seconds, clock)
    work = _Work(Path(out), plan, images, pace, report or _no_report)
    finished = work.dense() and all(map(work.method, plan.methods))
    if work.predictions.arrays:
        print_now("\n" + paper_predictions.table(work.predictions.arrays))
    if not finished:
        print_now("\nNot finished: the same command with the same --out and --data goes on.")
    return finished


class _Work:
    """The parts of the run, on one set of data."""

    def __init__(self, out: Path, plan: Plan, images: paper_data.Images, pace: Pace, report):
        self._out, self._plan, self._images = out, plan, images
        self._pace, self._report = pace, report
        self._files = paper_files.StateFiles(out, print_now)
        num_classes = images.splits.num_classes
        self._model = paper_data.make_network(num_classes, plan.depth, plan.width, plan.precision)
        self._predict = paper_predictions.Predict(self._model, images.samples.inputs, num_classes)
        self._dense_settings = {
            "data": images.digest,
            **{key: getattr(plan, key) for key in ("depth", "width", "precision", "batch_size")},
            "epochs": plan.dense_epochs,
            "optimizer": dataclasses.asdict(plan.dense_optimizer()),
        }
        self.predictions = Predictions(out, self._dense_settings)
        self._variables: Variables | None = None
        self._context: pipeline.RunContext | None = None
        self._ahead = CompiledAhead({})

    def dense(self) -> bool:
        """Trains the dense network unless that is done; whether it is now."""
        splits = self._images.splits
        untrained = self._model.init(jax.random.key(0), splits.train.inputs[:1])
        saved = paper_files.read_npz(self._out / DENSE_FILE)
        if saved:
            settings = paper_files.read_about(saved)
            paper_files.check_same(settings, self._dense_settings, DENSE_FILE)
            self._variables = paper_files.from_arrays(saved, untrained)
            if self._names_left():
                self._context = self._make_context(self._variables)
        self._plan_compilation(untrained)
        if self._variables is None:
            self._variables = self._train_dense(untrained)
        if self._variables is None:
            return False
        if not self.predictions.arrays:
            samples = self._images.samples
            groups = np.asarray(samples.group_ids)[:, 0]
            self.predictions.add_dense(
                np.asarray(samples.labels),
                groups,
                self._images.split_of,
                self._predict(self._variables),
            )
            self._report("dense", **self._accuracies())
        return True

    def _make_context(self, variables):
        execution = Execution(epoch="device", members=self._plan.members)
        return pipeline.make_context(self._model, variables, self._images.splits, execution)

    def _plan_compilation(self, untrained):
        """What is to be compiled for later; a dense network that is not there has a stand-in."""
        wanted = self._plan.compile_ahead
        if not (jax.default_backend() != "cpu" if wanted is None else wanted):
            return
        context = functools.cache(lambda: self._context or self._make_context(untrained))

        def compile_method(method):
            networks = self._networks_left(method)
            tuner = pipeline.make_tuner(context(), next(iter(networks.values())))
            [first, *_] = self._chunks(tuner, context(), networks)
            arrays = paper_programs.arrays_of(tuner, list(first.values()))
            tuner.runner.compile(*arrays, untrained, tuner.compiled.train)
            return tuner.runner

        jobs = {
            method: functools.partial(compile_method, method)
            for method in self._plan.methods
            if self._networks_left(method)
        }
        if jobs:
            jobs = {"predictions": functools.partial(self._predict.compile, untrained), **jobs}
        self._ahead = CompiledAhead(jobs, print_now)

    def _train_dense(self, untrained):
        train, plan = self._images.splits.train, self._plan
        program = paper_programs.dense_program(
            self._model,
            untrained,
            pipeline.context.place(train, None),
            plan.dense_optimizer(),
            epochs=plan.dense_epochs,
            batch_size=plan.batch_size,
            seed=0,
            settings=self._dense_settings,
        )
        states = self._run(program, self._names_left())
        if states is None:
            return None
        variables = jax.tree.map(lambda leaf: leaf[0], states.variables)
        if not _is_finite(variables):
            raise UserError("the dense network diverged; write another --out and --dense_decay.")
        arrays = paper_files.to_arrays(variables)
        about = paper_files.as_about(self._dense_settings)
        paper_files.write_npz(self._out / DENSE_FILE, {**arrays, "about": about})
        self._files.clear()
        return variables

    def _accuracies(self):
        arrays = self.predictions.arrays
        right = arrays["dense_class"] == arrays["label"]
        return {"test_accuracy": 100 * float(right[arrays["split"] == 2].mean())}

    def method(self, method: str) -> bool:
        """Prunes and tunes those networks of a method that are not finished; whether all are."""
        for name, settings in self._plan.networks(method).items():
            self.predictions.check_member(name, self._as_json(settings))
        networks = self._networks_left(method)
        if not networks:
            return True
        assert self._variables is not None, "the dense network comes first"
        self._context = self._context or self._make_context(self._variables)
        tuner = pipeline.make_tuner(self._context, next(iter(networks.values())))
        runner = self._ahead.take(method, self._pace.seconds_left())
        tuner = tuner._replace(runner=runner or tuner.runner)
        parts = self._chunks(tuner, self._context, networks)
        ahead = len(parts[0]) if runner else 0  # the last part may be smaller
        return all(self._tune(tuner, part, is_compiled=len(part) == ahead) for part in parts)

    def _networks_left(self, method: str) -> dict[str, Settings]:
        """Settings of the networks of a method that are not finished."""
        done = self.predictions.members
        networks = self._plan.networks(method).items()
        return {name: settings for name, settings in networks if name not in done}

    def _chunks(self, tuner, context, networks: dict[str, Settings]) -> list[dict[str, Settings]]:
        """The networks in parts whose states fit into the files."""
        names = list(networks)
        need = paper_programs.bytes_of_member(tuner, context, networks[names[0]])
        size = max(1, paper_files.LARGEST_STATE // need)
        parts = [names[start : start + size] for start in range(0, len(names), size)]
        return [{name: networks[name] for name in part} for part in parts]

    def _tune(self, tuner: pipeline.Tuner, networks: Mapping[str, Settings], is_compiled) -> bool:
        members, names = list(networks.values()), list(networks)
        assert self._context is not None
        program = paper_programs.tuning_program(
            f"{names[0]} … {names[-1]}",
            self._context,
            tuner,
            members,
            [self._as_json(member) for member in members],
        )
        program = program._replace(is_compiled=is_compiled)
        states = self._run(program, self._names_left() - networks.keys(), len(members))
        if states is None:
            return False
        self._keep(names, members, states)
        self._files.clear()
        return True

    def _as_json(self, settings: Settings) -> dict[str, Any]:
        """Everything that the result of a sparse network depends on."""
        dense = reporting.tree_sha256(self._variables)
        return {"dense": dense, **paper_programs.as_json(settings)}

    def _names_left(self) -> set[str]:
        """Names of the sparse networks that are not finished."""
        return {name for method in self._plan.methods for name in self._networks_left(method)}

    def _run(self, program, names_after: Collection[str], num_members: int = 1):
        """Runs a program; an epoch of later networks is taken to cost as much as in this one."""
        epochs = self._plan.pruning_epochs + self._plan.tuning_epochs
        epochs_after = epochs * len(names_after) / num_members
        return paper_programs.run_program(
            program, self._files, self._pace, self._print, epochs_after=epochs_after
        )

    def _print(self, line: str) -> None:
        """Prints a line of a program; after the first one, its own compilation is over."""
        print_now(line)
        self._ahead.start()

    def _keep(self, names: Sequence[str], members: Sequence[Settings], states) -> None:
        """Adds the predictions of finished networks."""
        of_member = [
            jax.tree.map(lambda leaf, i=i: leaf[i], states.variables) for i in range(len(names))
        ]
        self.predictions.add(
            names,
            [self._as_json(member) for member in members],
            [self._predict(variables) for variables in of_member],
            [not _is_finite(variables) for variables in of_member],
            _conditions(self._context),
        )
        for row in paper_predictions.rows(self.predictions.arrays):
            if row["network"] in names:
                self._report(row.pop("network"), **row)


def _conditions(context) -> dict[str, Any]:
    return {
        "versions": reporting.versions(),
        "device": jax.devices()[0].device_kind,
        "members_by": context.execution.members,
    }


def _is_finite(variables):
    return bool(jax.jit(finite.all_finite)(variables.params))


def _no_report(name: str, **numbers: Any) -> None:
    del name, numbers
