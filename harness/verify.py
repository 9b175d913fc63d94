"""Every answer against the plaintext one."""

from torch import Tensor

from harness.record import Correctness
from protocols.plain import answer
from protocols.workload import Argmax, Workload


class Answers:
    """Checks revealed answers; remembers the plaintext answer of the last workload."""

    def __init__(self) -> None:
        self._known: tuple[tuple[Workload, int], Tensor] | None = None

    def check(
        self, workload: Workload, seed: int, revealed: list[list[Tensor]], tolerance: float
    ) -> Correctness:
        """The worst error over all evaluations; `revealed` holds each one's steps."""
        right = self._right(workload, seed)
        if isinstance(workload, Argmax):
            wrong = float(sum(int(got) != int(right) for (got,) in revealed))
            return Correctness("wrong indices", wrong, tolerance, wrong <= tolerance)
        worst = max(relative_rms(got, right) for (got,) in revealed)
        return Correctness("relative rms", worst, tolerance, worst <= tolerance)

    def _right(self, workload: Workload, seed: int) -> Tensor:
        key = (workload, seed)
        if self._known is None or self._known[0] != key:
            self._known = (key, answer(workload, seed))
        return self._known[1]


def relative_rms(got: Tensor, right: Tensor) -> float:
    """rms(got − right) / rms(right); infinite where shapes differ or a value is not finite."""
    if got.shape != right.shape or not bool(got.isfinite().all()):
        return float("inf")
    error = (got - right).square().mean().sqrt()
    return float(error / right.square().mean().sqrt())
