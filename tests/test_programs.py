"""What a GPU's compiler is given: the text of the programs, lowered for CUDA on any machine."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import compiled
import operations
import program_facts
import programs
import roofline_bounds

GROUPS, MEMBERS = 10, 3
TINY = programs.NETWORKS["tiny"]
BATCH_BYTES = 4 * TINY.batch * TINY.shape[0]


def facts_of(program, method, **pruning):
    settings = programs.settings_of(TINY, method, **pruning)
    lowered = programs.lower(TINY, program, settings, GROUPS, members=MEMBERS, platform="cuda")
    return program_facts.facts(operations.read(lowered), program)


@pytest.mark.parametrize("program", programs.PROGRAMS)
@pytest.mark.parametrize("method", ["nft", "ceag", "el", "pairwise"])
def test_a_step_holds_nothing_that_a_gpu_stumbles_over(program, method):
    found = facts_of(program, method)
    assert found["ops"] > 100  # the reader has seen the step
    assert found["branches"] == found["loops"] == 0
    assert found["sorts"] == [0, 0]
    assert found["masks"] == 0
    assert found["callbacks"] == [] and found["f64"] == 0
    members = MEMBERS if program == "vmap" else 1
    assert 0 < found["gathers"] <= members * max(BATCH_BYTES, TINY.batch * 40 * 4)
    # Group sums add up; whatever else is written by index has each index once.
    sums = {"nft": 0, "ceag": 2, "el": 4, "pairwise": 2}[method]
    assert found["scatters"][0] == sums


@pytest.mark.parametrize("algorithm", ["set", "rigl", "saliency"])
def test_masks_that_last_an_epoch_stay_out_of_its_loop(algorithm):
    found = facts_of("epoch", "ceag", algorithm=algorithm)
    assert found["branches"] == found["masks"] == 0 and found["sorts"] == [0, 0]


def test_masks_of_every_step_are_found_in_the_loop():
    """Straight-through masks are made from the weights of every step."""
    assert facts_of("epoch", "nft", algorithm="magnitude_ste")["masks"] > 0


def loop(step, carry):
    """The facts of a loop over steps that is written by hand."""

    def run(carry):
        return jax.lax.scan(step, carry, jnp.arange(programs.STEPS))

    lowered = jax.jit(run).trace(carry).lower(lowering_platforms=("cpu",))
    return program_facts.facts(operations.read(lowered), "epoch")


def test_every_kind_of_trouble_is_found():
    def step(carry, i):
        mask, values = carry
        mask = jax.lax.cond(i % 2 == 0, lambda m: 1 - m, lambda m: m, mask)
        values = jnp.sort(values).at[jnp.zeros(4, int)].add(1.0)
        values = jax.lax.while_loop(lambda v: v[0] > 9, lambda v: v - 1, values)
        jax.debug.callback(lambda i: None, i)
        return (mask, values), values

    found = loop(step, (jnp.ones(32, jnp.uint8), jnp.zeros(64)))
    assert (found["branches"], found["loops"], found["sorts"]) == (1, 1, [1, 64])
    assert found["scatters"] == [1, 1]
    assert found["masks"] == 32 + 32  # the branch's result, and what the loop carries on
    assert found["metrics"] == 4 * 64
    assert len(found["callbacks"]) == 1 and "callback" in found["callbacks"][0]


def test_gathers_and_transposes_are_measured():
    images = jnp.zeros((50, 4, 4, 3))

    def step(carry, i):
        whole = jnp.take(images, jnp.arange(40) + i, axis=0).transpose(3, 1, 2, 0)
        return carry + whole.sum(), ()

    found = loop(step, jnp.float32(0))
    assert found["gathers"] == 4 * 40 * 4 * 4 * 3 and found["transposes"] == 1


def test_double_precision_is_found():
    with jax.enable_x64(True):
        found = loop(lambda carry, i: (carry + i, ()), jnp.zeros(3, jnp.float64))
    assert found["f64"] > 0


HLO = """HloModule jit_epoch, is_scheduled=true

%branch_a (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  ROOT %copy.1 = f32[2]{0} copy(%p)
}

%branch_b (p.1: f32[2]) -> f32[2] {
  %p.1 = f32[2]{0} parameter(0)
  %sin = f32[2]{0} sine(%p.1)
  ROOT %cos = f32[2]{0} cosine(%sin)
}

%body (t: (s32[], f32[2])) -> (s32[], f32[2]) {
  %t = (s32[], /*index=1*/f32[2]{0}) parameter(0)
  %x = f32[2]{0} get-tuple-element(%t), index=1
  %y = (f32[2]{0}, u8[16]{0}) custom-call(%x, %x), custom_call_target="conv"
  %z = f32[2]{0} conditional(%x, %x, %x), branch_computations={%branch_a, %branch_b}
  ROOT %out = (s32[], f32[2]{0}) tuple(%x, %z)
}

ENTRY %main (a: f32[2]) -> f32[2] {
  %a = f32[2]{0} parameter(0)
  %start = (f32[2]{0}, u8[16]{0}) custom-call(%a, %a), custom_call_target="conv"
  ROOT %w = (s32[], f32[2]{0}) while(%a), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"7"}}
}
"""  # noqa: E501


def test_launches_are_counted_through_loops_and_branches():
    program = compiled.computations(HLO)
    assert list(program) == ["branch_a", "branch_b", "body", "ENTRY"]
    body = compiled.steps_loop(program, 7)
    assert body == "body"
    once = {"custom-call": 1, "conditional": 1, "sine": 1, "cosine": 1}
    assert compiled.launches(program, body) == once
    whole = {name: 7 * count for name, count in once.items()} | {"custom-call": 8, "while": 1}
    assert compiled.launches(program, "ENTRY") == whole


def test_bytes_of_a_library_call_are_its_arguments_and_results():
    program = compiled.computations(HLO)
    assert compiled.library_bytes(program) == 8 + 8 + 8  # twice its argument, its first result


def test_a_program_compiled_here_is_read():
    def add(x):
        return x.at[2].set(3.0) @ x

    executable = compiled.compile_for("here", add, (jnp.zeros((64, 64)),))
    assert compiled.launches(compiled.computations(executable.as_text()), "ENTRY").total() >= 2
    assert compiled.bytes_accessed(executable) >= 4 * 2 * 64 * 64


def test_the_larger_of_two_times_binds():
    rows = roofline_bounds.bounds(roofline_bounds.Costs(494e9, 3.35e9), batch=128)
    assert rows["H100 SXM TF32"] == {"ms": 1.0, "samples": 128_000.0, "binds": "FLOPs"}
    assert rows["H100 SXM bfloat16"]["binds"] == "bytes"
    np.testing.assert_allclose(rows["TPU v5e bfloat16"]["ms"], 1000 * 3.35e9 / 819e9)
