"""Who follows a run that was started from Python: a live line, a function, and writers."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from bap_jax.errors import UserError
from bap_jax.live_line import LiveLine, check_show
from bap_jax.metric_writers import MetricWriter, check_writers, writing


class Watchers(NamedTuple):
    """What `prune_and_tune` was given.

    Attributes:
      progress: see `LiveLine`.
      on_epoch: called with the row of every epoch; or None.
      writers: of all rows.
    """

    progress: bool | None
    on_epoch: Callable[[dict[str, Any]], object] | None
    writers: Sequence[MetricWriter]

    @contextlib.contextmanager
    def following(self, label: str, epochs: int) -> Iterator[Callable[[dict[str, Any]], None]]:
        """A function that takes the rows of a run; whatever ends the block closes all writers."""
        with LiveLine(label, epochs, self.progress) as line:

            def on_epoch(row):
                line.update(row)
                if self.on_epoch is not None:
                    self.on_epoch(row)

            with writing(self.writers, on_epoch) as write:
                yield write


def check_watchers(
    progress: bool | None,
    on_epoch: Callable[[dict[str, Any]], object] | None,
    log: MetricWriter | Sequence[MetricWriter] | None,
) -> Watchers:
    """The watchers of a run; arguments as in `prune_and_tune`.

    Raises:
      UserError: one of them is not what it should be.
    """
    check_show(progress)
    if not (on_epoch is None or _takes_a_row(on_epoch)):
        raise UserError(f"on_epoch must be a function of one row, a dict; got {on_epoch!r}.")
    return Watchers(progress, on_epoch, check_writers(log))


def _takes_a_row(on_epoch):
    """Whether it can be called with one argument, as far as that can be known."""
    if not callable(on_epoch):
        return False
    try:
        inspect.signature(on_epoch).bind({})
    except ValueError:  # it has no signature
        return True
    except TypeError:
        return False
    return True
