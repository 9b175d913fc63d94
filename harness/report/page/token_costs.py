"""What a token costs in users' units: tokens a second, p50 and p95, bytes, core-seconds, money."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from harness.config.prices import Prices
from harness.records.record import Record
from harness.records.stats import digits, format_bytes, format_ns, spread
from harness.report.text_table import TextTable

PAID = ("offline", "input", "online")  # phases of every evaluation
MOST_ROWS = 60
HEADS = (
    "run", "unit", "a second", "p50", "p95", "bytes", "core-seconds", "traffic", "cores", "sum",
)  # fmt: skip


@dataclass(frozen=True)
class TokenCost:
    """Of one token of a whole model, or of one evaluation of anything else.

    times_ns: online samples: of each token after the first. wire_bytes: of all phases but `prepare`.
    core_s: processor time of all roles.
    """

    unit: str
    times_ns: Sequence[float]
    wire_bytes: float
    core_s: float

    def money(self, prices: Prices) -> tuple[float, float]:
        """For traffic, and for cores."""
        return self.wire_bytes / 1e9 * prices.per_gb, self.core_s / 3600 * prices.per_core_hour


def token_cost(record: Record) -> TokenCost | None:
    """None for a run without numbers. A token has its part of the whole evaluation, prompt included."""
    if record.status != "ok" or "online" not in record.phases:
        return None
    phases = [record.phases[name] for name in PAID if name in record.phases]
    sent = [t for p in phases for role in p.roles.values() for t in role.sent.values()]
    cpu_ns = [role.cpu_ns for p in phases for role in p.roles.values() if role.cpu_ns]
    tokens = sum(1 for step in record.steps if step.evaluation == record.steps[0].evaluation) or 1
    decode = [step.wall_ns for step in record.steps if step.kind == "decode"]
    times_ns = decode or record.phases["online"].wall_ns
    if not times_ns:
        return None
    return TokenCost(
        "token" if decode else "evaluation",
        times_ns,
        sum(traffic.wire_bytes for traffic in sent) / tokens,
        sum(median(samples) for samples in cpu_ns) / 1e9 / tokens,
    )


def cost_table(records: Sequence[Record], names: Sequence[str], prices: Prices) -> TextTable | None:
    """A row for each of `records` of whole models, or for all where there is none of these."""
    found = [(n, c) for n, r in zip(names, records, strict=True) if (c := token_cost(r))]
    tokens = [(name, cost) for name, cost in found if cost.unit == "token"]
    chosen = (tokens or found)[:MOST_ROWS]
    if not chosen:
        return None
    left = len(tokens or found) - len(chosen)
    notes = (f"{left} more runs are left out: filters choose.",) if left else ()
    title = f"Prices of {prices.date}, {prices.currency}: {prices.per_gb:g} a GB, "
    title += f"{prices.per_core_hour:g} a core-hour ({prices.source})"
    body = tuple(_row(name, cost, prices) for name, cost in chosen)
    return TextTable(title, HEADS, (False, False, *(True,) * 8), body, notes)


def _row(name: str, cost: TokenCost, prices: Prices) -> tuple[str, ...]:
    times = spread(cost.times_ns)
    assert times is not None  # `token_cost` leaves the others out
    p50, p95 = times.median, times.p95
    traffic, cores = cost.money(prices)
    return (
        *(name, cost.unit, digits(1e9 / p50) if p50 else "–", format_ns(p50)),
        *(format_ns(p95) if p95 else "–", format_bytes(cost.wire_bytes), digits(cost.core_s)),
        *(_money(amount) for amount in (traffic, cores, traffic + cores)),
    )


def _money(amount: float) -> str:
    return f"{amount:.2e}" if 0 < amount < 1e-4 else digits(amount)
