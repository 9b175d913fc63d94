"""Every answer against the plaintext one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.record import Correctness
from protocols.inputs import prompt_tokens
from protocols.plain import answer
from protocols.transformer.plain_model import PlainModel
from protocols.transformer.source import model_weights
from protocols.workload import Argmax, Generation, Sampling, UserInput, Workload

Steps = Sequence[Tensor]  # the revealed answer of each step of one evaluation


class Answers:
    """Checks revealed answers; remembers the plaintext answer of the last workload."""

    def __init__(self) -> None:
        self._known: tuple[tuple[Workload, int], Tensor] | None = None

    def check(
        self,
        workload: Workload,
        seed: int,
        revealed: Sequence[Steps],
        tolerance: float,
        user: UserInput | None = None,
    ) -> Correctness:
        """The worst error over all evaluations; `revealed` holds each one's steps."""
        if isinstance(workload, Generation):
            return _check_generation(workload, seed, revealed, tolerance, user or UserInput())
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


def _check_generation(
    work: Generation, seed: int, revealed: Sequence[Steps], tolerance: float, user: UserInput
) -> Correctness:
    """Logits (or BERT's hidden states) against a plaintext model that is given the same tokens.

    A greedy token that is not plaintext's likeliest makes the run incorrect whatever the error.
    """
    plain = PlainModel(work.spec, model_weights(work, seed))
    prompt = user.prompt or prompt_tokens(work.spec, work.prompt_len, seed)
    if work.spec.family == "bert":
        right = plain.encode(prompt)
        worst = max(relative_rms(got, right) for (got,) in revealed)
        return Correctness("relative rms of hidden states", worst, tolerance, worst <= tolerance)
    worst, wrong, known = 0.0, 0, dict[tuple[int, ...], Tensor]()
    for steps in revealed:
        tokens = tuple(int(step[0]) for step in steps)
        if tokens not in known:
            known[tokens] = _forced(plain, prompt, tokens)
        right = known[tokens]
        worst = max(worst, relative_rms(torch.stack([step[1:] for step in steps]), right))
        if user.sampling == Sampling(seed=user.sampling.seed):
            wrong += int((right.argmax(-1) != torch.tensor(tokens)).sum())
    metric = f"relative rms of logits, {wrong} tokens differ" if wrong else "relative rms of logits"
    return Correctness(metric, worst, tolerance, worst <= tolerance and not wrong)


def _forced(plain: PlainModel, prompt: Sequence[int], tokens: Sequence[int]) -> Tensor:
    """Plaintext logits (len(tokens), vocab) where the given tokens were picked."""
    plain.reset()
    rows = [plain.step(prompt)]
    rows += [plain.step([token]) for token in tokens[:-1]]
    return torch.stack(rows)


def relative_rms(got: Tensor, right: Tensor) -> float:
    """rms(got − right) / rms(right); infinite where shapes differ or a value is not finite."""
    if got.shape != right.shape or not bool(got.isfinite().all()):
        return float("inf")
    error = (got - right).square().mean().sqrt()
    return float(error / right.square().mean().sqrt())
