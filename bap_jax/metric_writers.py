"""Where the rows of a run go: JSON lines, TensorBoard, Weights & Biases, or a writer of your own.

    row of a step      loss, accuracy, multipliers, …       {"step": 12, "epoch": 0, "loss": …}
    row of an epoch    sparsity, validation accuracy, …     {"epoch": 0, "sparsity": …}

docs/outputs.md lists all keys. A writer is any object with the two functions of `MetricWriter`;
pass it to `prune_and_tune(log=...)`. Commands make writers by the names in `config.log`.
"""

import contextlib
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from absl import logging

from bap_jax import sharding
from bap_jax._user_code import check_registration, import_object
from bap_jax.errors import UserError

# Of longer lists, such as the multipliers of many groups, only JSON lines has the entries.
LISTED = 100


class MetricWriter(Protocol):
    """Takes the rows of one run."""

    def write(self, row: dict[str, Any], /) -> object:
        """Takes the row of a step, or, if it has no `step`, of an epoch."""
        ...

    def close(self) -> object:
        """Ends the record; called once, also after an error."""
        ...


class RunDescription(NamedTuple):
    """What a command knows of a run before its first step.

    Attributes:
      folder: of the run; it exists.
      name: of the run, as its folder is called.
      config: as plain values.
    """

    folder: Path
    name: str
    config: Mapping[str, Any]


class JsonLines:
    """One JSON object per line; written to the disk at least once an epoch.

    Args:
      path: of the file, which is overwritten.
    """

    def __init__(self, path: str | Path):
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115, closed by `close`

    def write(self, row: dict[str, Any], /) -> None:
        """Writes a line."""
        self._file.write(json.dumps(row) + "\n")
        if "step" not in row:
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoard:
    """Scalars for TensorBoard: `step/…` by number of the step, `epoch/…` by that of the epoch.

    Args:
      folder: for the event files.

    Raises:
      UserError: tensorboardX is not installed.
    """

    def __init__(self, folder: str | Path):
        check_installed("tensorboard")
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def write(self, row: dict[str, Any], /) -> None:
        """Adds the numbers of a row."""
        unit = unit_of(row)
        for name, value in scalars(row).items():
            self._writer.add_scalar(f"{unit}/{name}", value, row[unit])
        if unit == "epoch":
            self._writer.flush()

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, with `step/…` and `epoch/…`.

    Args:
      **options: of `wandb.init`; by default `project="bap_jax"`. Whether anything is sent, and by
        whom, wandb takes from its environment variables, for instance WANDB_MODE=offline.

    Raises:
      UserError: wandb is not installed.
    """

    def __init__(self, **options: Any):
        check_installed("wandb")
        import wandb

        # Several runs of one program are open at once.
        self._run = wandb.init(**{"project": "bap_jax", "reinit": "create_new", **options})
        self._run.define_metric("epoch/*", step_metric="epoch")
        self._step = 0

    def write(self, row: dict[str, Any], /) -> None:
        """Logs the numbers of a row."""
        self._step = row.get("step", self._step)
        unit = unit_of(row)
        values = {f"{unit}/{name}": value for name, value in scalars(row).items()}
        self._run.log({**values, "epoch": row["epoch"]}, step=self._step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


def unit_of(row: Mapping[str, Any]) -> str:
    """`step` or `epoch`: what a row is about."""
    return "step" if "step" in row else "epoch"


def scalars(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a row by name; entries of lists by place, and only of rows of epochs.

    Example:
      >>> scalars({"epoch": 3, "sparsity": 0.5, "multipliers": [0.0, 0.25]})
      {'sparsity': 0.5, 'multipliers/0': 0.0, 'multipliers/1': 0.25}
    """
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= scalars(value, f"{prefix}{name}/")
        elif isinstance(value, list) and "step" not in row and len(value) <= LISTED:
            found |= scalars({str(i): each for i, each in enumerate(value)}, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name not in ("step", "epoch"):
            found[f"{prefix}{name}"] = value
    return found


class MakeWriter(Protocol):
    """A function that makes the writer of one run, for `config.log`."""

    def __call__(self, run: RunDescription, /) -> MetricWriter:
        """Makes the writer; called in the first process only."""
        ...


def _tensorboard(run: RunDescription, /) -> MetricWriter:
    folder = run.folder / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)  # TensorBoard would show an earlier run as well
    return TensorBoard(folder)


def _wandb(run: RunDescription, /) -> MetricWriter:
    return WeightsAndBiases(name=run.name, dir=str(run.folder), config=dict(run.config))


WRITERS: dict[str, MakeWriter] = {
    "json": lambda run: JsonLines(run.folder / "metrics.jsonl"),
    "tensorboard": _tensorboard,
    "wandb": _wandb,
}
_NEEDED = {"tensorboard": "tensorboardX", "wandb": "wandb"}


def register_writer(name: str, make: MakeWriter, *, replace: bool = False) -> None:
    """Makes a writer known by name, for `config.log`.

    Args:
      name: letters, numbers and `_ . + -`.
      make: makes it.
      replace: give a name that is in use a new meaning.

    Raises:
      UserError: the name is taken, unless by the same function, or cannot be a name.
    """
    check_registration("writer", name, make, WRITERS, replace)
    WRITERS[name] = make


def check_installed(name: str) -> None:
    """Raises an error if a writer's package is missing.

    Raises:
      UserError: it is; the message says what to install.
    """
    package = _NEEDED.get(name)
    if package and importlib.util.find_spec(package) is None:
        raise UserError(
            f"log {name!r} needs {package}, which is not installed; write "
            f"pip install 'bap_jax[{name}]'."
        )


def find_writers(log: str) -> dict[str, MakeWriter]:
    """The writers that `config.log` names, JSON lines first, which a run's page is made from.

    Args:
      log: names joined by commas: known ones, or `module:function` with a `MakeWriter`.

    Raises:
      UserError: a name is unknown, a function cannot be imported, or a package is missing.
    """
    if not isinstance(log, str):
        raise UserError(f"config.log must be names joined by commas; got {log!r}.")
    found = {"json": WRITERS["json"]}
    for name in filter(None, (part.strip() for part in log.split(","))):
        if ":" in name:
            found[name] = import_object(name, "log")
            if not callable(found[name]):
                raise UserError(f"log {name!r} must be a function; got {found[name]!r}.")
        elif name in WRITERS:
            check_installed(name)
            found[name] = WRITERS[name]
        else:
            raise UserError(
                f"unknown log {name!r}; known: {', '.join(WRITERS)}, joined by commas. For your "
                "own write 'module:function', or call metric_writers.register_writer first."
            )
    return found


def make_writers(log: str, run: RunDescription) -> list[MetricWriter]:
    """The writers that `config.log` names, for one run; none in all processes but the first.

    Raises:
      UserError: see `find_writers`.
    """
    if not sharding.is_first_process():
        return []
    return [make(run) for make in find_writers(log).values()]


def check_writers(log: Any) -> list[MetricWriter]:
    """The writers of `prune_and_tune(log=...)`: None, one, or a sequence of them.

    Raises:
      UserError: an object has not both functions of a writer.
    """
    several = isinstance(log, Sequence) and not isinstance(log, str)
    writers: list[Any] = [] if log is None else list(log) if several else [log]
    for writer in writers:
        functions = getattr(writer, "write", None), getattr(writer, "close", None)
        if isinstance(writer, str | type) or not all(map(callable, functions)):
            raise UserError(
                "log= takes a writer with write(row) and close(), such as "
                f"bap_jax.metric_writers.JsonLines('metrics.jsonl'), or a list of them; got "
                f"{writer!r}."
            )
    return writers


@contextlib.contextmanager
def writing(
    writers: Sequence[MetricWriter], on_epoch: Callable[[dict[str, Any]], object] | None = None
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that hands a row to every writer, and those of epochs to `on_epoch`.

    All writers are closed when the block ends, also by an error. One that cannot be closed is a
    warning: what was trained, or the error that ended the block, matters more.

    Args:
      writers: of one run.
      on_epoch: called with a copy of the row of every epoch, after it has been written.
    """

    def write(row: dict[str, Any]) -> None:
        for writer in writers:
            writer.write(row)
        if on_epoch is not None and "step" not in row:
            on_epoch(dict(row))

    try:
        yield write
    finally:
        for writer in writers:
            try:
                writer.close()
            except Exception as error:  # of a service, or of a user's own code: anything
                logging.warning("%r could not be closed: %r", writer, error)
