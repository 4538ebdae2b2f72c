"""What a step costs, read off its program: the sizes of its arrays and its matrix products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import training
from bap_jax.lagrangian import SCHEMES
from bap_jax.training import METHODS, methods
from bap_jax.training.settings import ConstraintSettings, DualSettings, Settings
from tests.training.tiny import tiny, trainer_of

GROUPS, BATCH, MEMORY = 1009, 128, 40


@pytest.fixture(scope="module")
def problem():
    """Many groups, most of them with one sample."""
    return tiny((20, *[1] * (GROUPS - 1)))


def equations(program):
    """Every equation of a jaxpr and of those inside it (jit, cond, scan, custom derivatives)."""
    for equation in program.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_program):
            if is_program(inner):
                yield from equations(getattr(inner, "jaxpr", inner))


def is_program(node):
    return hasattr(getattr(node, "jaxpr", node), "eqns")


def shapes(program):
    return {
        getattr(variable.aval, "shape", ())
        for equation in equations(program)
        for variable in equation.outvars
    }


def is_product(shape):
    """As many elements as there are pairs of a sample and a group."""
    return np.prod(shape) >= BATCH * GROUPS


def traced(trainer, problem):
    """The program of one step."""
    state = trainer.init(problem.variables, jax.random.key(0))
    step = lambda state, train: trainer.step(state, train, jnp.arange(BATCH), 0)  # noqa: E731
    return jax.make_jaxpr(step)(state, problem.train).jaxpr


def settings(method="ceag", scheme="dual_primal", dual=None, **constraint):
    constraint = {"min_group_size": 1, "buffer_size": MEMORY} | constraint
    return Settings(
        method, scheme, dual=dual or DualSettings(), constraint=ConstraintSettings(**constraint)
    )


ASCENT = DualSettings("ascent")
VARIANTS = [settings(method) for method in METHODS] + [
    *(settings(method, dual=ASCENT) for method in ("el", "ceag", "pairwise", "distillation")),
    settings(scheme="extragradient"),
    settings(dual=DualSettings(rule="nu_pi")),
    settings(dual=DualSettings(rule="augmented")),
    settings("pairwise", proxy="kl", overall_term="clipped"),
    settings("el", el_buffer_size=MEMORY),
    settings("floor", estimator="control_variate"),
]


def label(one):
    return "-".join((one.method, one.scheme, one.dual.rule, one.constraint.estimator))


@pytest.mark.parametrize("variant", VARIANTS, ids=label)
def test_nothing_has_an_entry_for_every_sample_and_group(variant, problem):
    found = shapes(traced(trainer_of(problem, variant), problem))
    assert (BATCH,) in found  # the walk sees the inside of the step
    constrained = methods.build_method(problem.reference, variant).constraint.size
    assert any(GROUPS in shape or 2 * GROUPS in shape for shape in found) == bool(constrained)
    assert not [shape for shape in found if is_product(shape)]


def one_hot_sums(values, ids, weight, num_groups):
    """What `metrics.group_sums` must not do."""
    member = jax.nn.one_hot(ids, num_groups) * weight[:, None, None]
    total = jnp.einsum("b,bag->g", values, member)
    return training.step.metrics.GroupSums(total, member.sum((0, 1)))


def test_the_check_can_fail(problem, monkeypatch):
    monkeypatch.setattr(training.step.metrics, "group_sums", one_hot_sums)
    found = shapes(traced(trainer_of(problem, settings()), problem))
    assert (BATCH, 1, GROUPS) in filter(is_product, found)


@pytest.mark.parametrize(
    "wrap", ["jit", "cond", "scan", "while", "custom_jvp", "checkpoint", "vmap"]
)
def test_the_check_looks_inside(wrap):
    def product(x):
        return (x[:, None] * jnp.ones((1, GROUPS))).sum(1)

    custom = jax.custom_jvp(product)
    custom.defjvps(lambda tangent, value, x: tangent)
    wrapped = {
        "jit": jax.jit(product),
        "cond": lambda x: jax.lax.cond(x[0] > 0, product, lambda x: x, x),
        "scan": lambda x: jax.lax.scan(lambda c, _: (product(c), None), x, length=2)[0],
        "while": lambda x: jax.lax.while_loop(lambda c: c[0] > 0, product, x),
        "custom_jvp": custom,
        "checkpoint": jax.checkpoint(product),
        "vmap": jax.vmap(lambda one: (one * jnp.ones(GROUPS)).sum()),
    }[wrap]
    program = jax.make_jaxpr(wrapped)(jnp.ones(BATCH)).jaxpr
    assert any(map(is_product, shapes(program)))


def test_the_buffer_is_the_largest_array(problem):
    found = shapes(traced(trainer_of(problem, settings(dual=ASCENT)), problem))
    assert max(found, key=np.prod) == (GROUPS, MEMORY)


def test_two_averages_need_no_buffer(problem):
    found = shapes(traced(trainer_of(problem, settings()), problem))
    assert (GROUPS,) in found and not [shape for shape in found if np.prod(shape) > 4 * 2 * GROUPS]


# Forward and backward passes of a step; a pass forward is two matrix products, one backward three.
PASSES = {
    "simultaneous": (1, 1),
    "dual_primal": (1, 1),
    "primal_dual": (2, 1),
    "extragradient": (2, 2),
    "optimistic": (1, 1),
    "switching": (1, 1),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_passes_through_the_network(scheme, problem):
    calls = []

    def apply(*args, **options):
        calls.append(args)
        return problem.model.apply(*args, **options)

    counted = problem._replace(model=problem.model._replace(apply=apply))
    program = traced(trainer_of(counted, settings(scheme=scheme)), problem)
    forward, backward = PASSES[scheme]
    assert len(calls) == forward
    products = sum(equation.primitive.name == "dot_general" for equation in equations(program))
    assert products == 2 * forward + 3 * backward
