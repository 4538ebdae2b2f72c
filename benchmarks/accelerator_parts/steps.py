"""What constraints cost: a step of CEAG over one of naive fine-tuning (NFT) over a bare pass.

A bare pass is forward and backward of the dense network on a batch that is ready; a step of NFT or
CEAG gathers its batch, computes metrics, moves the weights and masks 95 % of them. Two ways:

    in_epoch   all steps in one compiled loop, as in an epoch on the device
    from_host  each step is started from Python, blocks of at least 50 ms
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import workloads

from accelerator_parts import measure
from accelerator_parts.measure import Network, Task
from accelerator_parts.part import Part, Recorder
from bap_jax.types import Dataset

PAIRS = (("ceag", "nft"), ("ceag", "bare"), ("nft", "bare"))
GOAL_NETWORK, GOAL_MLP, MOST_GROUPS_WITH_GOAL = 1.02, 1.05, 10_000


class Case(NamedTuple):
    """A network with groups.

    Attributes:
      name: of the rows.
      network: what is trained.
      num_groups: constraints of CEAG.
      precision: of the network.
      steps: in one compiled loop.
      need: seconds that compiling and timing take at least, roughly.
      goal: largest CEAG step over NFT step; None: there is none.
    """

    name: str
    network: Network
    num_groups: int
    precision: str
    steps: int
    need: float
    goal: float | None


def cases(small: bool) -> list[Case]:
    """By value."""
    resnet56, resnet50, mlp = (
        make(small) for make in (measure.resnet56, measure.resnet50, measure.mlp)
    )

    def networks(precision):
        return [
            Case("resnet56", resnet56, 100, precision, 2 if small else 20, 25, GOAL_NETWORK),
            Case("resnet50", resnet50, 100, precision, 2 if small else 4, 40, GOAL_NETWORK),
        ]

    def mlps(precision):
        return [
            Case(
                f"mlp_{size}",
                mlp,
                size,
                precision,
                2 if small else 300 if size <= 1000 else 100,
                8,
                GOAL_MLP if size <= MOST_GROUPS_WITH_GOAL else None,
            )
            for size in (10, 100, 1_000, 10_000, 100_000)
        ]

    if small:
        return [networks("float32")[0], mlps("bfloat16")[0]]
    first, second = networks("float32"), networks("bfloat16")
    return [first[0], *mlps("float32"), second[1], second[0], first[1], *mlps("bfloat16")]


def batches_of(train: Dataset, network: Network) -> Dataset:
    """The samples as `(step, batch, ...)`."""
    shape = (network.batches, network.batch)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), train)


def bare_task(case: Case, model: Any, variables: Any, train: Dataset, looped: bool) -> Task:
    """Forward and backward passes on batches that are ready; state and gradients are kept."""
    forward_backward = workloads.forward_backward(model)

    def step(state, variables, batch):
        del state
        (_, model_state), grads = forward_backward(variables, batch)
        return (model_state, grads), ()

    def loop(state, variables, batches):
        def body(state, i):
            batch = jax.tree.map(lambda leaf: leaf[i % case.network.batches], batches)
            return step(state, variables._replace(state=state[0]), batch)

        return jax.lax.scan(body, state, jnp.arange(case.steps))

    batches = batches_of(train, case.network)
    first = jax.tree.map(lambda leaf: leaf[0], batches)
    state = (variables.state, variables.params)  # gradients have the shapes of the weights
    return Task(loop if looped else step, state, (variables, batches if looped else first))


def begin(trainer: Any, variables: Any, train: Dataset, batch: int) -> tuple[Any, Any]:
    """The network as masks remove weights in the first epoch, and these masks."""

    def run(variables, train):
        state = trainer.init(variables, jax.random.key(1))
        state = trainer.begin_epoch(state, train, jnp.arange(batch), 0)
        return state.variables, state.masks

    return jax.jit(run)(variables, train)


def step_task(case: Case, trainer: Any, begun: tuple, train: Dataset, looped: bool) -> Task:
    """Steps of a trainer after `begin`; the last operand is the number of the epoch."""
    network = case.network
    indices = jnp.arange(network.batches * network.batch).reshape(network.batches, network.batch)

    def loop(state, train, epoch):
        order = indices[jnp.arange(case.steps) % network.batches]
        return trainer.run_steps(state, train, order, epoch)

    def step(state, train, epoch):
        return trainer.step_in_epoch(state, train, indices[0], epoch)

    variables, masks = begun
    state = trainer.init(variables, jax.random.key(1))._replace(masks=masks, epoch=jnp.int32(0))
    return Task(loop if looped else step, state, (train, jnp.int32(1)))


def measure_case(recorder: Recorder, case: Case, looped: bool) -> None:
    """Three rows."""
    network, model = case.network, case.network.build(case.precision)
    size = network.batch * network.batches
    train = workloads.make_data(network.shape, size, network.num_classes, case.num_groups)
    variables = workloads.random_variables(model, train.inputs)
    pruner = workloads.make_pruner(model, variables, train.inputs)
    tasks = {"bare": bare_task(case, model, variables, train, looped)}
    begun = begin(workloads.make_trainer(model, pruner), variables, train, network.batch)
    for name, num_groups in (("nft", 0), ("ceag", case.num_groups)):
        trainer = workloads.make_trainer(model, pruner, num_groups, first_epoch=1)
        tasks[name] = step_task(case, trainer, begun, train, looped)
    programs = measure.compile_all(tasks)
    runs, per = dict(programs), case.steps
    if not looped:
        least = 0 if recorder.small else measure.BLOCK_SECONDS
        per = measure.steps_of_a_block(programs["bare"], least)
        runs = {name: measure.repeated(program, per) for name, program in programs.items()}
    measure.compare(
        recorder,
        f"{case.name} {case.precision} {'in_epoch' if looped else 'from_host'}",
        runs,
        PAIRS,
        rounds=15,
        goals={"ceag/nft": case.goal},
        per=per,
    )


def run(recorder: Recorder) -> None:
    """All cases in one loop, then in float32 from the host, as far as time goes."""
    every = cases(recorder.small)
    for looped in (True, False):
        for case in every if looped or not recorder.small else every[-1:]:
            if looped or case.precision == "float32" or case.network.name == "mlp":
                name = f"{case.name} {case.precision} {'in_epoch' if looped else 'from_host'}"
                recorder.attempt(name, measure_case, recorder, case, looped, need=case.need)


PART = Part("steps", "CEAG step ÷ NFT step ÷ bare forward and backward pass", 5.0, run)
