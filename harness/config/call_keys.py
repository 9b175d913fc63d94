"""Keys of one call of `permbench run`: how its runs are gone through. No run depends on them."""

from dataclasses import dataclass, field
from typing import Any

from protocols.options import doc

LAUNCHER = "hydra/launcher"
HERE, LOCAL, SLURM = "basic", "submitit_local", "submitit_slurm"  # Hydra's names
LAUNCHERS = {
    HERE: "one run after the other, in this process",
    LOCAL: "jobs on this machine, all at once: to try a launcher",
    SLURM: "jobs of a Slurm cluster, through sbatch",
}
ORDERS = ("interleaved", "grid", "shuffled")


@dataclass(frozen=True)
class SweepConfig:
    """How the runs of a sweep are gone through."""

    order: str = field(
        default="interleaved",
        metadata=doc(
            "order of the runs; interleaved: as given, but runs that differ in the system alone in turns, "
            "evaluation by evaluation; grid: one after the other, as given; shuffled: drawn by sweep.seed",
            ", ".join(ORDERS),
        ),
    )
    seed: int = field(default=1, metadata=doc("what decides a shuffled order"))
    jobs: int = field(
        default=4, metadata=doc("jobs that a launcher spreads the runs over", "a whole number ≥ 1")
    )


@dataclass(frozen=True)
class CallConfig:
    """The keys of a call."""

    continue_on_error: bool = field(
        default=True, metadata=doc("go on after a run that failed or gave a wrong answer")
    )
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
