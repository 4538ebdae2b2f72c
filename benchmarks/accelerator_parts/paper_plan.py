"""What the paper's run computes: networks, epochs, settings, sparsities and seeds.

Pruning and tuning are as in experiments/cifar100.py, the multipliers as in the paper: they move by
plain ascent, and those of EL by absolute differences.
"""

import dataclasses

from accelerator_parts.paper_programs import START_SECONDS
from bap_jax import training
from bap_jax.training import (
    ConstraintSettings,
    DualSettings,
    OptimizerSettings,
    PruningSettings,
    Settings,
)

_CONSTRAINT = ConstraintSettings(el_absolute=True)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
      methods: of tuning, names of `training.METHODS`; with none, only the dense network.
      sparsities, seeds: every sparsity is tuned with every seed.
      depth, width: of the residual network.
      dense_epochs, dense_decay: epochs and weight decay of the dense network.
      pruning_epochs, tuning_epochs: of the sparse networks.
      batch_size: samples of a step, of the dense and of the sparse networks.
      precision: in which the networks compute, `float32` or `bfloat16`.
      members: `vmap` or `map`, see `training.Execution`; `auto` leaves it to the backend.
      constraint: section of the settings.
      save_seconds: from one save of a state to the next.
      start_seconds: what the first epoch of a program may take, compilation included; a program is
        not started with less time left.
      compile_ahead: whether a thread compiles the programs of the sparse networks while the dense
        network is trained; None: unless that is done on a CPU.
    """

    methods: tuple[str, ...] = ("nft", "ceag")
    sparsities: tuple[float, ...] = (0.925, 0.95)
    seeds: tuple[int, ...] = (0, 1)
    depth: int = 56
    width: int = 16
    dense_epochs: int = 60
    dense_decay: float = 5e-4
    pruning_epochs: int = 15
    tuning_epochs: int = 45
    batch_size: int = 128
    precision: str = "float32"
    members: str = "auto"
    constraint: ConstraintSettings = _CONSTRAINT
    save_seconds: float = 20.0
    start_seconds: float = START_SECONDS
    compile_ahead: bool | None = None

    def dense_optimizer(self) -> OptimizerSettings:
        """SGD .1 with momentum .9, ×.1 after a half, three quarters and nine tenths."""
        return OptimizerSettings(0.1, milestones=(0.5, 0.75, 0.9), weight_decay=self.dense_decay)

    def settings(self, method: str, sparsity: float, seed: int) -> Settings:
        """The settings of one sparse network."""
        settings = Settings(
            method,
            seed=seed,
            tolerance=0.1,
            finetune_epochs=self.tuning_epochs,
            batch_size=self.batch_size,
            precision=self.precision,
            optimizer=OptimizerSettings(weight_decay=1e-4),
            pruning=PruningSettings(sparsity, self.pruning_epochs),
            dual=DualSettings("ascent", learning_rate=1e-2),
            constraint=self.constraint,
        )
        training.check_settings(settings)
        return settings

    def networks(self, method: str) -> dict[str, Settings]:
        """Settings of all sparse networks of a method, by their names."""
        return {
            f"{method}-{sparsity:g}-seed{seed}": self.settings(method, sparsity, seed)
            for sparsity in self.sparsities
            for seed in self.seeds
        }


# Changes of the plan for a dry run.
SMALL = {
    "seeds": (0,),
    "depth": 8,
    "width": 4,
    "dense_epochs": 3,
    "pruning_epochs": 1,
    "tuning_epochs": 2,
    "batch_size": 50,
    "constraint": ConstraintSettings(min_group_size=2, buffer_size=2, el_absolute=True),
    "start_seconds": 0.0,
    "compile_ahead": True,
}
