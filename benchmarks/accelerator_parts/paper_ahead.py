"""Programs that a thread compiles while the device runs another one."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

_NAME = "compiles ahead"


class CompiledAhead:
    """Does some jobs in a thread, one after the other.

    The thread begins when `start` or `take` is called, and ends with the process, whatever it is
    doing then.

    Args:
      jobs: by name, in order.
      print_line: takes a line about a job that raises an error.
    """

    def __init__(
        self, jobs: Mapping[str, Callable[[], Any]], print_line: Callable[[str], object] = print
    ):
        self._jobs, self._print = dict(jobs), print_line
        self._results: dict[str, Future] = {name: Future() for name in jobs}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread; later calls do nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=_NAME, daemon=True)
            self._thread.start()

    def _work(self):
        for name, job in self._jobs.items():
            result = None
            try:
                result = job()
            except Exception as error:  # the program is then compiled when it is needed
                self._print(f"{name} was not compiled ahead: {type(error).__name__}: {error}")
            self._results[name].set_result(result)

    def take(self, name: str, seconds: float) -> Any:
        """What a job returned; None if it raised an error, or there is none of this name.

        Args:
          name: of the job.
          seconds: to wait for it at most; None is returned after that.
        """
        if name not in self._results:
            return None
        self.start()
        try:
            return self._results[name].result(max(0.0, seconds))
        except TimeoutError:
            return None


def is_working() -> bool:
    """Whether a thread still compiles something."""
    return any(thread.name == _NAME for thread in threading.enumerate())
