"""A thread does jobs in order, and what fails there is only not done ahead."""

import threading

from tests.paper_run.modules import module


def test_results_are_waited_for_and_errors_are_told():
    lines, may_go_on = [], threading.Event()

    def waits():
        assert may_go_on.wait(60)
        return "first"

    def fails():
        raise MemoryError("no room")

    jobs = {"a": waits, "b": fails, "c": lambda: "third"}
    ahead = module("paper_ahead").CompiledAhead(jobs, lines.append)
    assert not module("paper_ahead").is_working()
    assert ahead.take("a", 0.0) is None
    assert ahead.take("a", -1.0) is None
    assert module("paper_ahead").is_working()
    ahead.start()
    may_go_on.set()
    assert [ahead.take(name, 60.0) for name in "abcd"] == ["first", None, "third", None]
    assert lines == ["b was not compiled ahead: MemoryError: no room"]
