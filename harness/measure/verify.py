"""Every answer against the plaintext one: what the system says it computes, and the exact one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from harness.measure.beyond_bounds import beyond_bounds
from harness.parties.job import Job
from harness.records.record import Correctness
from protocols.expected_answer import answer
from protocols.inputs import fed_tokens, prompt_tokens
from protocols.system import PlainRun, System
from protocols.transformer.source import model_weights
from protocols.workload import Argmax, Generation, Layer, UserInput, Workload

AT_ONCE = 64  # tokens in one pass over the plaintext model, which goes through all its weights
LEFT_OUT = 16  # largest values of a row of activations or logits that may not hide the others

Steps = Sequence[Tensor]  # the revealed answer of each step of one evaluation
Tokens = tuple[int, ...]
Asked = tuple[Workload, int, Any]


class Answers:
    """Checks revealed answers; remembers the last workload's plaintext answers: that of the system, and
    the exact one, which all systems share."""

    def __init__(self) -> None:
        self._own: tuple[type[System], Asked, Tensor] | None = None
        self._exact: tuple[Asked, Tensor] | None = None

    def check(self, system: type[System], job: Job, revealed: Sequence[Steps]) -> Correctness:
        """The worst error over all evaluations; `revealed` holds each one's steps."""
        workload, tolerance = job.workload, system.tolerance(job.workload)
        if isinstance(workload, Generation):
            return _check_generation(system, job, workload, revealed)
        answers = [answer for (answer,) in revealed]
        own = self._own_answer(system, job)
        exact = self._exact_answer(job) if system.approximates(job.options) else own
        if isinstance(workload, Argmax):
            metric = "wrong indices"
            wrong, far = (
                float(sum(int(a) != int(right) for a in answers)) for right in (own, exact)
            )
            return Correctness(metric, wrong, tolerance, wrong <= tolerance, far)
        error = relative_error if isinstance(workload, Layer) else relative_rms
        worst, far = (max(error(a, right) for a in answers) for right in (own, exact))
        return Correctness("relative rms", worst, tolerance, worst <= tolerance, far)

    def beyond_bounds(self, system: type[System], job: Job, revealed: Sequence[Steps]) -> list[str]:
        """Where the values of a model are beyond what `system` computes with, of a generation."""
        work, user = job.workload, job.user or UserInput()
        if not isinstance(work, Generation):
            return []
        prompt = user.prompt or prompt_tokens(work.spec, work.prompt_len, job.seed)
        tokens = _Output.of(work, revealed[0]).tokens
        plain = system.plain_model(work, job.seed, job.options)
        steps = [prompt, *([token] for token in tokens[:-1])]
        bounds, weights = system.bounds(job.options), model_weights(work, job.seed)
        return beyond_bounds(bounds, work.spec, weights, plain, steps)

    def _own_answer(self, system: type[System], job: Job) -> Tensor:
        asked: Asked = (job.workload, job.seed, job.options)
        if self._own is None or self._own[:2] != (system, asked):
            self._own = (system, asked, system.plaintext(*asked))
        return self._own[2]

    def _exact_answer(self, job: Job) -> Tensor:
        asked: Asked = (job.workload, job.seed, None)
        if self._exact is None or self._exact[0] != asked:
            self._exact = (asked, answer(job.workload, job.seed))
        return self._exact[1]


def _check_generation(
    system: type[System], job: Job, work: Generation, revealed: Sequence[Steps]
) -> Correctness:
    """Logits (or BERT's hidden states) against a plaintext model that is given the same tokens.

    A greedy token that is not among plaintext's likeliest, as far as the tolerance tells them apart, makes
    the run incorrect whatever the error.
    """
    seed, tolerance, user = job.seed, system.tolerance(work), job.user or UserInput()
    prompt = user.prompt or prompt_tokens(work.spec, work.prompt_len, seed)
    outputs = [_Output.of(work, steps) for steps in revealed]
    fed = _Fed(work, tuple(prompt), seed)
    own = _forced(system.plain_model(work, seed, job.options), fed, outputs)
    exact = own
    if system.approximates(job.options):
        exact = _forced(System.plain_model(work, seed, None), fed, outputs)
    worst, far = (
        max(relative_error(o.values, rows[o.tokens]) for o in outputs) for rows in (own, exact)
    )
    wrong = 0
    if user.sampling.temperature == 0:
        wrong = sum(o.differing(own[o.tokens], tolerance) for o in outputs)
    metric = "relative rms of " + ("hidden states" if work.spec.family == "bert" else "logits")
    metric += f", {wrong} tokens differ" if wrong else ""
    return Correctness(metric, worst, tolerance, worst <= tolerance and not wrong, far)


@dataclass(frozen=True)
class _Output:
    """What one evaluation of a model gave: its tokens (none of BERT), and float64 logits
    (len(tokens), vocab) or hidden states."""

    tokens: Tokens
    values: Tensor

    @classmethod
    def of(cls, work: Generation, steps: Steps) -> Self:
        """From the revealed answer of each step."""
        if work.spec.family == "bert":
            (values,) = steps
            return cls((), values)
        rows = torch.cat([s.reshape(-1, s.shape[-1]) for s in steps])
        return cls(tuple(rows[:, 0].long().tolist()), rows[:, 1:])

    def differing(self, right: Tensor, tolerance: float) -> int:
        """How many tokens are less likely than plaintext's likeliest by more than an error that is
        accepted: `tolerance` times the rms of their step's logits."""
        if not self.tokens:
            return 0
        picked = right.gather(-1, torch.tensor(self.tokens).unsqueeze(-1)).squeeze(-1)
        gap = right.amax(-1) - picked
        return int((gap > tolerance * right.square().mean(-1).sqrt()).sum())


@dataclass(frozen=True)
class _Fed:
    """What P1 puts into a model beside the tokens that come out: its prompt, and drafted tokens."""

    work: Generation
    prompt: Tokens
    seed: int

    def logits(self, plain: PlainRun, tokens: Tokens) -> Tensor:
        """What `plain` gives, float64 (len(tokens), vocab), where `tokens` were picked; of BERT its
        hidden states."""
        plain.reset()
        if not tokens:
            return plain.encode(self.prompt)
        drafted = self.work.drafted
        alone = len(tokens) - drafted - 1 if drafted else len(tokens)  # that came out one by one
        rows = [plain.step(self.prompt).unsqueeze(0)]
        for lo in range(0, alone - 1, AT_ONCE):
            rows.append(plain.verify(tokens[lo : min(lo + AT_ONCE, alone - 1)]))
        if drafted:
            fed = fed_tokens(self.work, alone, tokens[alone - 1 : alone], self.seed)
            rows.append(plain.verify(fed))
        return torch.cat(rows)


def _forced(plain: PlainRun, fed: _Fed, outputs: Sequence[_Output]) -> dict[Tokens, Tensor]:
    """What `plain` gives where the tokens of each output were picked, by these tokens."""
    return {tokens: fed.logits(plain, tokens) for tokens in {o.tokens for o in outputs}}


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
