"""Every answer against the plaintext one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.parties.job import Job
from harness.records.record import Correctness
from protocols.inputs import prompt_tokens
from protocols.system import PlainRun, System
from protocols.workload import Argmax, Generation, Layer, UserInput, Workload

LEFT_OUT = 16  # largest values of a row of activations or logits that may not hide the others

Steps = Sequence[Tensor]  # the revealed answer of each step of one evaluation


Asked = tuple[type[System], Workload, int, Any]


class Answers:
    """Checks revealed answers; remembers the plaintext answer of the last workload."""

    def __init__(self) -> None:
        self._known: tuple[Asked, Tensor] | None = None

    def check(self, system: type[System], job: Job, revealed: Sequence[Steps]) -> Correctness:
        """The worst error over all evaluations; `revealed` holds each one's steps."""
        workload, tolerance = job.workload, system.tolerance(job.workload)
        if isinstance(workload, Generation):
            return _check_generation(system, job, workload, revealed)
        right = self._right(system, job)
        if isinstance(workload, Argmax):
            wrong = float(sum(int(got) != int(right) for (got,) in revealed))
            return Correctness("wrong indices", wrong, tolerance, wrong <= tolerance)
        error = relative_error if isinstance(workload, Layer) else relative_rms
        worst = max(error(got, right) for (got,) in revealed)
        return Correctness("relative rms", worst, tolerance, worst <= tolerance)

    def _right(self, system: type[System], job: Job) -> Tensor:
        asked = (system, job.workload, job.seed, job.options)
        if self._known is None or self._known[0] != asked:
            self._known = (asked, system.plaintext(job.workload, job.seed, job.options))
        return self._known[1]


def _check_generation(
    system: type[System], job: Job, work: Generation, revealed: Sequence[Steps]
) -> Correctness:
    """Logits (or BERT's hidden states) against a plaintext model that is given the same tokens.

    A greedy token that is not plaintext's likeliest makes the run incorrect whatever the error.
    """
    seed, tolerance, user = job.seed, system.tolerance(work), job.user or UserInput()
    plain = system.plain_model(work, seed, job.options)
    prompt = user.prompt or prompt_tokens(work.spec, work.prompt_len, seed)
    if work.spec.family == "bert":
        right = plain.encode(prompt)
        worst = max(relative_error(got, right) for (got,) in revealed)
        return Correctness("relative rms of hidden states", worst, tolerance, worst <= tolerance)
    worst, wrong, known = 0.0, 0, dict[tuple[int, ...], Tensor]()
    for steps in revealed:
        tokens = tuple(int(step[0]) for step in steps)
        if tokens not in known:
            known[tokens] = _forced(plain, prompt, tokens)
        right = known[tokens]
        worst = max(worst, relative_error(torch.stack([step[1:] for step in steps]), right))
        if user.sampling.temperature == 0:
            wrong += int((right.argmax(-1) != torch.tensor(tokens)).sum())
    metric = f"relative rms of logits, {wrong} tokens differ" if wrong else "relative rms of logits"
    return Correctness(metric, worst, tolerance, worst <= tolerance and not wrong)


def _forced(plain: PlainRun, prompt: Sequence[int], tokens: Sequence[int]) -> Tensor:
    """Plaintext logits (len(tokens), vocab) where the given tokens were picked."""
    plain.reset()
    rows = [plain.step(prompt)]
    rows += [plain.step([token]) for token in tokens[:-1]]
    return torch.stack(rows)


def relative_error(got: Tensor, right: Tensor) -> float:
    """`relative_rms` of rows (n, width), or of what they are without the `LEFT_OUT` largest of each,
    whichever is larger: one large coordinate would make errors of all others look small."""
    whole = relative_rms(got, right)
    if got.shape != right.shape or right.shape[-1] <= LEFT_OUT:
        return whole
    rest = right.abs().argsort(-1)[..., :-LEFT_OUT]
    return max(whole, relative_rms(got.gather(-1, rest), right.gather(-1, rest)))


def relative_rms(got: Tensor, right: Tensor) -> float:
    """rms(got − right) / rms(right), 0 for equal tensors; infinite where shapes differ or a value on
    either side is not finite."""
    if got.shape != right.shape or not bool(got.isfinite().all() and right.isfinite().all()):
        return float("inf")
    error, size = ((x.square().mean().sqrt()) for x in (got - right, right))
    if float(error) == 0.0:
        return 0.0
    return float(error / size) if float(size) else float("inf")
