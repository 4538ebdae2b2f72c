"""How a program runs on this machine; nothing here changes what is computed.

    epoch     device   one compiled loop an epoch, the data set on the device
              loop     the compiled step, called from Python; also for data read from disk
    members   vmap     all members of a program at once
              map      one after another within the program
              single   a program for one member, called for each

What is fastest differs. On XLA:CPU a convolution's weight gradient is slow inside loops unless it
is written for them (`models.convolution`), and `vmap` makes grouped convolutions, 4.5 times slower
than one after another; on GPU and TPU both are as fast as can be.
"""

import dataclasses

import jax
from jax.sharding import Mesh

from bap_jax import sharding
from bap_jax.types import UserError

EPOCHS = ("auto", "device", "loop")
MEMBERS = ("auto", "vmap", "map", "single")
SPREADS = ("data", "members")


@dataclasses.dataclass(frozen=True)
class Execution:
    """Choices, each of which may be left to the backend.

    Attributes:
      epoch, members: see above.
      chunk: members of a program; 0: as many as fit into memory.
      devices: how many take part; 0: all there are, of CPU devices one (more than one are there for
        tests), unless several processes take part.
      spread: what several devices share out: each batch's samples (`data`) or the `members`.
      data_cache: folder that keeps decoded images; where empty, runs with a workdir keep them there
        and others keep nothing.

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
        """Of the devices that take part; None for one."""
        count = self.devices or None
        if not self.devices and jax.default_backend() == "cpu" and jax.process_count() == 1:
            count = 1
        return sharding.data_mesh(count)


def resolve_execution(
    execution: Execution, *, streamed: bool, has_convolutions: bool, slow_in_loops: bool
) -> Execution:
    """The choices that were left open, made for the backend.

    Args:
      execution: as asked for.
      streamed: whether samples are read when needed.
      has_convolutions: whether the network has any.
      slow_in_loops: whether their weight gradients are not written for loops.

    Raises:
      UserError: what was asked for cannot be: streamed data on the device, several members of a
        program without an epoch on the device, or members shared out among processes.
    """
    if execution.spread == "members" and jax.process_count() > 1:
        raise UserError("spread='members' is for a single process; leave it out.")
    on_cpu = jax.default_backend() == "cpu"
    epoch, members = execution.epoch, execution.members
    if streamed and epoch == "device":
        raise UserError("epoch='device' needs data that lie on the device; these are streamed.")
    if epoch == "auto":
        epoch = "loop" if streamed or (on_cpu and slow_in_loops) else "device"
    if execution.spread == "members" and (epoch == "loop" or members == "single"):
        raise UserError(
            "spread='members' needs members of one program and an epoch on the device; write "
            "members='vmap' or 'map' and epoch='device', or spread='data'."
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
