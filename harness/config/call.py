"""Keys of one call of `permbench run`: how its runs are gone through. No run depends on them."""

from dataclasses import dataclass, field
from typing import Any

LAUNCHER = "hydra/launcher"
HERE, LOCAL, SLURM = "basic", "submitit_local", "submitit_slurm"  # Hydra's names
LAUNCHERS = {
    HERE: "one run after the other, in this process",
    LOCAL: "jobs on this machine, all at once: to try a launcher",
    SLURM: "jobs of a Slurm cluster, through sbatch",
}
ORDERS = ("given", "shuffled")


@dataclass(frozen=True)
class SweepConfig:
    """order: given, or shuffled by `seed`. jobs: how many a launcher spreads the runs over."""

    order: str = "given"
    seed: int = 1
    jobs: int = 4


@dataclass(frozen=True)
class CallConfig:
    """continue_on_error: after a run that failed or gave a wrong answer."""

    continue_on_error: bool = True
    sweep: SweepConfig = field(default_factory=SweepConfig)


@dataclass(frozen=True)
class Launcher:
    """What starts the runs: the name of an option of `hydra/launcher`, and its keys."""

    name: str = HERE
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def is_set(self) -> bool:
        """Whether jobs do the runs, and not this process."""
        return self.name != HERE


@dataclass(frozen=True)
class Call:
    """The keys of a call, checked, and its launcher."""

    config: CallConfig = field(default_factory=CallConfig)
    launcher: Launcher = field(default_factory=Launcher)
