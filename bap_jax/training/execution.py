"""How a program runs on this machine. Nothing here changes what is computed.

    epoch     device   one compiled loop per epoch, with the data set on the device
              loop     the compiled step, called from Python; also for data read from disk
    members   vmap     all members of a program at once
              map      one after another within the program
              single   a program for one member, called once for each

Defaults depend on the backend. On XLA:CPU the weight gradient of a convolution is slow inside loops
unless it is written for them (`models.convolution`), and `vmap` makes grouped convolutions, which
are 4.5 times slower than one after another; on GPU and TPU neither costs anything.
"""

import dataclasses

import jax
from jax.sharding import Mesh

from bap_jax import sharding
from bap_jax.errors import UserError

EPOCHS = ("auto", "device", "loop")
MEMBERS = ("auto", "vmap", "map", "single")
SPREADS = ("data", "members")


@dataclasses.dataclass(frozen=True)
class Execution:
    """How programs run; `auto` leaves a choice to the backend.

    Attributes:
      epoch: `device` runs an epoch as one compiled program, `loop` calls the compiled step from
        Python.
      members: `vmap` runs all members of a program at once, `map` one after another within the
        program, `single` calls a program of one member for each.
      chunk: how many members one program has; 0: as many as fit into memory.
      devices: how many devices take part; 0: all accelerators, or one CPU device (there are more
        only in tests) unless there are several processes.
      spread: what several devices divide among themselves: the samples of each batch (`data`) or
        the `members`.
      data_cache: folder that keeps decoded images; if empty, runs with a workdir keep them in it,
        and others do not keep them.

    Raises:
      UserError: an unknown name, or a negative number.
    """

    epoch: str = "auto"
    members: str = "auto"
    chunk: int = 0
    devices: int = 1
    spread: str = "data"
    data_cache: str = ""

    def __post_init__(self):
        for name, known in (("epoch", EPOCHS), ("members", MEMBERS), ("spread", SPREADS)):
            if getattr(self, name) not in known:
                raise UserError(
                    f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}."
                )
        for name in ("chunk", "devices"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must be ≥ 0; got {getattr(self, name)}.")

    def mesh(self) -> Mesh | None:
        """The devices that take part; None if it is only one."""
        count = self.devices or None
        if not self.devices and jax.default_backend() == "cpu" and jax.process_count() == 1:
            count = 1
        return sharding.data_mesh(count)


def resolve_execution(
    execution: Execution, *, streamed: bool, has_convolutions: bool, slow_in_loops: bool
) -> Execution:
    """Makes the choices that `auto` left to the backend.

    Args:
      execution: with choices that may be `auto`.
      streamed: whether samples are read when needed.
      has_convolutions: whether the network has any.
      slow_in_loops: whether their weight gradients are not written for loops.

    Raises:
      UserError: choices do not go together: streamed data with an epoch on the device, several
        members of a program without one, or members divided among processes.
    """
    if execution.spread == "members" and jax.process_count() > 1:
        raise UserError("spread='members' works in a single process only; leave it out.")
    on_cpu = jax.default_backend() == "cpu"
    epoch, members = execution.epoch, execution.members
    if streamed and epoch == "device":
        raise UserError(
            "epoch='device' needs data on the device, and these are streamed; write epoch='loop'."
        )
    if epoch == "auto":
        epoch = "loop" if streamed or (on_cpu and slow_in_loops) else "device"
    if execution.spread == "members" and (epoch == "loop" or members == "single"):
        raise UserError(
            "spread='members' needs members of one program and an epoch on the device; write "
            "epoch='device' and members='vmap' or 'map', or spread='data'."
        )
    if epoch == "loop" and members in ("vmap", "map"):
        raise UserError(
            f"members={members!r} needs an epoch on the device; write epoch='device', or "
            "members='single'."
        )
    if members == "auto":
        members = "map" if on_cpu and has_convolutions else "vmap"
        members = "single" if epoch == "loop" else members
    return dataclasses.replace(execution, epoch=epoch, members=members)
