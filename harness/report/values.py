"""The numbers of a record that tables and figures can show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from harness.records import query as rows
from harness.records.record import Record, StepRecord
from harness.records.stats import format_bytes, format_ns
from harness.report.columns import STEPS, error_text, exact_error

Number = Callable[[Record], float | None]


@dataclass(frozen=True)
class Value:
    """One number of a record.

    title: its name on an axis. unit: of the number in data files. number: None where a record has
    none. text: its spelling. samples: what a time is the median of. step: the same of one token.
    """

    title: str
    unit: str
    number: Number
    text: Callable[[float], str]
    samples: Callable[[Record], Sequence[float]] = lambda record: ()
    step: Callable[[StepRecord], float] | None = None

    def tick(self, number: float) -> str:
        """A short spelling, for an axis."""
        if number == 0:
            return "0"
        digits, *unit = self.text(number).split(" ")
        return " ".join([f"{float(digits):g}", *unit])


def _time(
    title: str,
    samples: Callable[[Record], Sequence[float]],
    step: Callable[[StepRecord], float] | None = None,
) -> Value:
    """A median time, in ns."""

    def number(record: Record) -> float | None:
        times = samples(record)
        return median(times) if times else None

    return Value(title, "ns", number, format_ns, samples, step)


def _phase(phase: str, step: Callable[[StepRecord], float] | None = None) -> Value:
    def samples(record: Record) -> Sequence[float]:
        found = record.phases.get(phase)
        return found.wall_ns if found else ()

    return _time(f"{phase} time", samples, step)


def _token(head: str, kind: str) -> Value:
    def samples(record: Record) -> Sequence[float]:
        return [step.wall_ns for step in record.steps if step.kind == kind]

    titles = {"prefill": "time to first token", "verify": "time of a verify pass"}
    return _time(f"online {titles.get(kind, 'time per token')}", samples)


def _online(number: Callable[[Record], float | None]) -> Number:
    return lambda record: number(record) if "online" in record.phases else None


def _slowdowns(record: Record) -> Sequence[float]:
    found = record.phases.get("online")
    each = (rows.slowdown(record, ns) for ns in (found.wall_ns if found else ()))
    return [orders for orders in each if orders is not None]


def _error(record: Record) -> float | None:
    return None if record.correctness is None else record.correctness.value


VALUES = {
    "online": _phase("online", lambda step: step.wall_ns),
    "offline": _phase("offline", lambda step: step.offline_wall_ns),
    "prepare": _phase("prepare"),
    "sum": Value(
        "online and offline time", "ns", rows.sum_ns, format_ns,
        step=lambda step: step.wall_ns + step.offline_wall_ns,
    ),
    "steady_state": Value(
        "steady state: offline work done ahead of time", "ns", rows.steady_ns, format_ns
    ),
    **{head.replace(" ", "_"): _token(head, kind) for head, kind in STEPS},
    "bytes": Value(
        "online payload of all roles", "bytes",
        _online(lambda record: rows.payload_bytes(record, "online")), format_bytes,
        step=lambda step: step.payload_bytes,
    ),
    "offline_bytes": Value(
        "offline payload of all roles", "bytes",
        lambda record: rows.payload_bytes(record, "offline") if "offline" in record.phases else None,
        format_bytes,
    ),
    "hops": Value(
        "hops of the online phase", "hops", _online(lambda record: record.phases["online"].hops),
        "{:.0f}".format, step=lambda step: step.hops,
    ),
    "slowdown": Value(
        "orders of magnitude slower than PyTorch in the clear", "orders", rows.slowdown,
        "{:.1f}".format, _slowdowns,
    ),
    "error": Value("error against the system's own approximation", "", _error, error_text),
    "exact_error": Value("error against the exact model", "", exact_error, error_text),
}  # fmt: skip
