"""The time of PyTorch beside a run's: of the same work, by the threads of a party."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, repeat

import pytest
import torch
from torch import Tensor

from baselines.plaintext.services import service
from harness.config.compose import compose_run
from harness.measure.pytorch_time import LEAST, MOST, WARMUPS, pytorch_times_ns
from protocols.expected_answer import answer


@dataclass
class Watched:
    """A service that keeps its answers, and with how many threads they were made."""

    made: object
    answers: list[tuple[Tensor, int]]

    def __getattr__(self, name: str) -> object:
        return getattr(self.made, name)

    def reply(self, step: int, request: tuple[Tensor, ...]) -> Tensor:
        found: Tensor = self.made.reply(step, request)  # type: ignore[attr-defined]
        self.answers.append((found, torch.get_num_threads()))
        return found


@pytest.mark.parametrize("work", ["linear", "gelu", "softmax", "layer"])
def test_the_same_work_is_timed(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call gives the answer that the run is checked against, as float32 has it."""
    answers: list[tuple[Tensor, int]] = []
    monkeypatch.setattr(
        "harness.measure.pytorch_time.service", lambda *given: Watched(service(*given), answers)
    )
    workload = compose_run(
        ["experiment=slowdown", f"experiment.work={work}", "experiment.d=128"]
    ).workload()
    before = torch.get_num_threads()
    times = pytorch_times_ns(workload, 7, before + 1)
    assert torch.get_num_threads() == before
    assert len(answers) == WARMUPS + len(times)
    assert {threads for _, threads in answers} == {before + 1}
    right = answer(workload, 7)
    for found, _ in (answers[0], answers[-1]):
        assert found.dtype == torch.float32
        assert torch.allclose(found.double(), right, atol=1e-5)


@pytest.mark.parametrize(
    ("call_ns", "calls_made"), [(10**9, LEAST), (10**3, MOST), (5 * 10**7, 10)]
)
def test_long_work_is_timed_less_often(
    call_ns: int, calls_made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Iterator[int] = count()
    monkeypatch.setattr(
        "harness.measure.pytorch_time.time.perf_counter_ns",
        lambda: (next(calls) + 1) // 2 * call_ns,
    )
    workload = compose_run(["experiment=slowdown", "experiment.work=gelu"]).workload()
    assert pytorch_times_ns(workload, 7, 1) == [*repeat(call_ns, calls_made)]
