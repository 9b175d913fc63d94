"""What an external program answers, against what it should."""

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from baselines.external.program_file import AnswerRule
from protocols.workload import Argmax, Workload

NUMBER = re.compile(
    r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?\b(?:inf|nan)\b", re.IGNORECASE
)


def metric(rule: AnswerRule, workload: Workload | None) -> str:
    """What `error` measures. workload: that of permbench's own experiment, None of `program`."""
    if isinstance(workload, Argmax) or (workload is None and isinstance(rule.expected, str)):
        return "wrong answers"
    return "largest difference" if workload is None else "relative rms"


def error(rule: AnswerRule, text: str, right: Tensor | None = None) -> float:
    """How far the answer in `text` is from the right one; infinite where it has another size.

    right: that of permbench's own experiment, an index of int64 or float64 values; None: the file has it.
    """
    if right is not None:
        got = torch.tensor(numbers(text), dtype=torch.float64)
        expected = right.to(torch.float64).reshape(-1)
        if not right.is_floating_point():
            return float(got.tolist() != expected.tolist())
        return _rms(got, expected)
    if isinstance(rule.expected, str):
        return float(text.strip() != rule.expected.strip())
    return _largest(numbers(text), rule.expected)


def numbers(text: str) -> list[float]:
    """All numbers in a text, in their order."""
    return [float(found) for found in NUMBER.findall(text)]


def _largest(got: Sequence[float], right: Sequence[float]) -> float:
    if len(got) != len(right):
        return math.inf
    off = [abs(a - b) for a, b in zip(got, right, strict=True)]
    return math.inf if any(map(math.isnan, off)) else max(off)


def _rms(got: Tensor, right: Tensor) -> float:
    """rms(got − right) / rms(right), infinite where shapes differ or a value is not finite."""
    if got.shape != right.shape or not bool(got.isfinite().all()):
        return math.inf
    return float((got - right).square().mean().sqrt() / right.square().mean().sqrt())
