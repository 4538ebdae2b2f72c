"""Interrupted programs end like whole ones, and pause when they should.

Networks are small here and no time is checked: clocks move when a test says so.
"""

import dataclasses

import jax
import numpy as np
import pytest

from bap_jax import pipeline
from bap_jax.training import OptimizerSettings, PruningSettings, Settings
from tests.paper_run.modules import module, same

SETTINGS = Settings(
    pruning=PruningSettings(0.8, 2, prunable="kernels"), finetune_epochs=3, batch_size=200
)


class OneByOne:
    """A pace of `block` epochs of 2 s between saves that stops after `epochs`."""

    epoch_seconds = 2.0

    def __init__(self, epochs, block=1):
        self.epochs, self.block = epochs, block

    def start(self, is_compiled):
        del is_compiled

    def seconds_left(self):
        return 7.0

    def next_block(self, epochs_left):
        count = min(self.block, self.epochs, epochs_left)
        self.epochs -= count
        return count

    def block_ended(self, epochs):
        return 2.0 * epochs


def members(method):
    settings = dataclasses.replace(SETTINGS, method=method)
    return [dataclasses.replace(settings, seed=seed) for seed in (3, 4)]


def tuned_program(context, method, runner=None):
    """A program of two members that shares nothing compiled with those made before."""
    tuner = pipeline.make_tuner(context, members(method)[0])
    tuner = tuner._replace(runner=runner or tuner.runner)
    programs, settings = module("paper_programs"), members(method)
    texts = [programs.as_json(one) for one in settings]
    return programs.tuning_program("t", context, tuner, settings, texts)


def run(program, folder, *pace, lines=None):
    lines = [] if lines is None else lines
    files = module("paper_files").StateFiles(folder, lines.append)
    return module("paper_programs").run_program(
        program, files, OneByOne(*pace), lines.append, epochs_after=1
    )


@pytest.fixture(scope="module")
def whole(context, tmp_path_factory):
    """The states after a run of one block."""
    return run(tuned_program(context, "ceag"), tmp_path_factory.mktemp("whole"), 5, 5)


@pytest.mark.smoke
def test_an_interrupted_run_ends_like_a_whole_one(tmp_path, context, whole):
    """Multipliers, buffers, momentum, masks and random keys included."""
    lines = []
    assert run(tuned_program(context, "ceag"), tmp_path, 3, 2, lines=lines) is None
    again = run(tuned_program(context, "ceag"), tmp_path, 2, lines=lines)
    assert [line.partition(", training")[0] for line in lines] == [
        *("t: epoch 2 of 5", "t: epoch 3 of 5"),
        *("t: 3 epochs were saved", "t: epoch 4 of 5", "t: epoch 5 of 5"),
    ]
    left = "s to go, 2 s for later networks, 7 s left"
    assert lines[0].endswith(f"2.00 s an epoch; about 6 {left}: not enough, so repeat the command")
    assert lines[1].endswith(f"; about 4 {left}")
    assert same(whole, again)
    assert again.epoch.tolist() == [4, 4]
    assert (np.asarray(again.lagrangian.multipliers) > 0).any()


def test_a_run_ends_like_the_tuner(context, whole):
    tuner = pipeline.make_tuner(context, members("ceag")[0])
    for i, result in enumerate(tuner.run(members("ceag"))):
        variables = jax.tree.map(lambda leaf, i=i: leaf[i], whole.variables)
        assert same(variables, result.last.variables)


def test_a_program_compiled_ahead_for_another_network_is_the_same(tmp_path, context, whole):
    """With the arrays of an untrained network; then nothing is left to compile."""
    compiled, programs, is_noting = [], module("paper_programs"), [False]
    untrained = context.model.init(jax.random.key(1), context.splits.train.inputs[:1])
    other = pipeline.make_context(context.model, untrained, context.splits)
    tuner = pipeline.make_tuner(other, members("ceag")[0])
    arrays = programs.arrays_of(tuner, members("ceag"))
    tuner.runner.compile(*arrays, untrained, tuner.compiled.train)

    def note(name, seconds, **others):
        del seconds, others
        if is_noting[0] and "compile" in name:
            compiled.append(name)

    jax.monitoring.register_event_duration_secs_listener(note)
    program = tuned_program(context, "ceag", tuner.runner)
    is_noting[0] = True
    program.run(program.init(), range(1))
    is_noting[0] = False
    assert not compiled
    assert same(run(program, tmp_path, 5), whole)


def dense_program(model, train):
    variables = model.init(jax.random.key(0), train.inputs[:1])
    make = module("paper_programs").dense_program
    optimizer = OptimizerSettings(0.1, weight_decay=1e-3)
    how = {"epochs": 3, "batch_size": 200, "seed": 5}
    whole = pipeline.train_dense(model, variables, train, optimizer, **how)
    train = pipeline.context.place(train, None)
    return whole, lambda: make(model, variables, train, optimizer, **how, settings={})


def test_the_dense_network_is_that_of_the_library(tmp_path, small_dense, digits_splits):
    whole, program = dense_program(small_dense[0], digits_splits.train)
    assert run(program(), tmp_path, 2) is None
    states = run(program(), tmp_path, 3)
    assert same(jax.tree.map(lambda leaf: leaf[0], states.variables), whole)


def test_other_settings_cannot_go_on(tmp_path, context):
    run(tuned_program(context, "ceag"), tmp_path, 1)
    with pytest.raises(ValueError, match=r"saved state of t was made with 0.method=ceag, not nft"):
        run(tuned_program(context, "nft"), tmp_path, 1)


def pace(deadline, clock, **options):
    return module("paper_programs").Pace(deadline, 20.0, clock=clock, **options)


def test_blocks_last_as_long_as_asked_for():
    """5 s are kept back. Compilation takes 30 s here, an epoch 4: five of them between saves."""
    now = [0.0]
    mine = pace(205, lambda: now[0], start_seconds=60)
    counts = []
    for seconds in (30, 4, 20, 20):
        counts.append(mine.next_block(100))
        now[0] += seconds
        mine.block_ended(counts[-1])
    assert counts == [1, 1, 5, 5]
    assert mine.epoch_seconds == 4
    assert mine.next_block(3) == 3
    now[0] = 191
    assert mine.next_block(100) == 2
    now[0] = 197
    assert mine.next_block(100) == 0


def test_a_compiled_program_needs_less_time_to_start():
    mine = pace(100, lambda: 90.0, start_seconds=60)
    assert mine.next_block(10) == 0
    mine.start(is_compiled=True)
    assert mine.next_block(10) == 1


def test_a_program_is_not_started_without_time_to_compile():
    now = [0.0]
    mine = pace(100, lambda: now[0], start_seconds=60)
    assert mine.next_block(10) == 1
    now[0] = 30
    mine.block_ended(1)  # took 30 s
    now[0] = 64
    mine.start()
    assert mine.next_block(10) == 1
    now[0] = 66
    mine.start()
    assert mine.next_block(10) == 0
