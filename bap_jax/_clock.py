"""Measures how long the phases of a run take."""

import contextlib
import time
from collections.abc import Iterator, Mapping


class Clock:
    """Measures the seconds spent in each phase."""

    def __init__(self, seconds: Mapping[str, float] | None = None):
        self.seconds = dict(seconds or {})

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        spent = self.seconds.get(phase, 0) + time.perf_counter() - start
        self.seconds[phase] = round(spent, 3)

    def copy(self) -> "Clock":
        """A clock that starts from the seconds of this one."""
        return Clock(self.seconds)
