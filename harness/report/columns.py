"""The columns of a table of records, chosen for its experiment."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.experiments import EXPERIMENTS, ExperimentConfig
from harness.errors import spell
from harness.records import draft_gain, selection
from harness.records import query as rows
from harness.records.record import Record
from harness.records.sample_verdict import verdict
from harness.records.stats import (
    Spread,
    digits,
    format_bytes,
    format_ns,
    format_rate,
    format_spread,
    spread,
)

# A prompt's ids are long; rates of acceptance have columns of their own.
HIDDEN = ("name", "tokens", "acceptance")
STEPS = (("first token", "prefill"), ("per token", "decode"), ("verify pass", "verify"))  # medians
RUNNER = "runner.name"
# Keys that a fixed column shows already.
SHOWN = ("model.d_model", "network.rtt_ms", "network.rate_mbit")


@dataclass(frozen=True)
class Column:
    """A heading and its cell for a record.

    right: numbers stand on the right. foldable: a constant column may move into the title.
    short: the cell where there is little room.
    """

    head: str
    cell: Callable[[Record], str]
    right: bool = False
    foldable: bool = False
    short: Callable[[Record], str] | None = None


def columns_of(records: Sequence[Record]) -> list[Column]:
    """The columns for the records of one experiment."""
    return [
        *identity_columns(records),
        Column("status", _status),
        Column("verdict", lambda record: str(verdict(record))),
        Column("online", _online, right=True),
        *_slowdown_columns(records),
        *([Column("p95", _p95, right=True)] if _any_p95(records) else []),
        *(column for head, kind in STEPS for column in _step_columns(records, head, kind)),
        *_gain_columns(records),
        Column("hops", hops_text, right=True),
        Column("bytes", _online_bytes, right=True),
        _full_speed_column("offline"),
        Column("sum", sum_text, right=True),
        _full_speed_column("prepare"),
        *error_columns(records),
        *stored_columns(records),
        Column("date", _date),
    ]


def identity_columns(records: Sequence[Record]) -> list[Column]:
    """What tells the records of one experiment apart; a key that varies beyond the names gets its
    own."""
    experiment = rows.experiment(records[0])
    extra = [key for key in rows.varying_keys(records) if key not in SHOWN]
    if not uses_model(experiment):
        extra = [key for key in extra if not key.startswith("model.")]
    return [
        *_what_columns(experiment, records),
        config_column("system", "system.name"),
        Column("network", _network, foldable=True),
        config_column("shaper", "shaper.name"),
        *(config_column(key, key) for key in extra),
        *([config_column("runner", RUNNER)] if _runners(records) > 1 else []),
        *(
            Column(name, selection.condition_texts(name, records), foldable=True)
            for name in selection.varying_conditions(records)
        ),
    ]


def _runners(records: Sequence[Record]) -> int:
    return len({record.flat.get(RUNNER) for record in records})


def error_columns(records: Sequence[Record]) -> list[Column]:
    """The error against the system's own approximation, and where known that against the exact model."""
    columns = [Column("error", _error, right=True)]
    if any(exact_error(record) is not None for record in records):
        columns.append(Column("exact error", _exact_error, right=True))
    return columns


def stored_columns(records: Sequence[Record]) -> list[Column]:
    """What each party keeps, where a system says."""
    known = [record for record in records if record.stored_bytes]
    return [Column("stored", _stored, right=True)] if known else []


def _slowdown_columns(records: Sequence[Record]) -> list[Column]:
    """What PyTorch took in the clear, and how many times as long online time is, as a power of ten."""
    if all(record.pytorch_ns is None for record in records):
        return []
    return [
        Column("PyTorch", _pytorch, right=True),
        Column("× PyTorch", _slowdown, right=True),
    ]


def _pytorch(record: Record) -> str:
    times = spread(record.pytorch_ns or [])
    return format_ns(times.median) if times else "–"


def _slowdown(record: Record) -> str:
    orders = rows.slowdown(record)
    return "–" if orders is None else f"10^{orders:.1f}"


def _step_columns(records: Sequence[Record], head: str, kind: str) -> list[Column]:
    """The median of such steps, and where a record has enough of them their 95th percentile."""

    def found(record: Record) -> Spread | None:
        return spread([step.wall_ns for step in record.steps if step.kind == kind])

    def middle(record: Record) -> str:
        times = found(record)
        return format_ns(times.median) if times else "–"

    known = [times for record in records if (times := found(record))]
    tail = Column(f"{head} p95", lambda record: _p95_text(found(record)), right=True)
    columns = [Column(head, middle, right=True)] if known else []
    return [*columns, *([tail] if any(times.p95 for times in known) else [])]


def _gain_columns(records: Sequence[Record]) -> list[Column]:
    """For each rate of acceptance, how much faster than decoding, and how many tokens a pass."""
    rates = sorted({gain.acceptance for record in records for gain in draft_gain.gains(record)})
    return [_gain_column(rate) for rate in rates]


def _gain_column(rate: float) -> Column:
    def cell(record: Record) -> str:
        found = (gain for gain in draft_gain.gains(record) if gain.acceptance == rate)
        gain = next(found, None)
        return "–" if gain is None else f"{digits(gain.speed_up)} ({digits(gain.tokens)} tokens)"

    return Column(f"gain at {rate:g}", cell, right=True)


def _any_p95(records: Sequence[Record]) -> bool:
    return any(_p95(record) != "–" for record in records)


def _p95(record: Record) -> str:
    return _p95_text(rows.phase_spread(record, "online"))


def _p95_text(times: Spread | None) -> str:
    return "–" if times is None or times.p95 is None else format_ns(times.p95)


def sort_key(record: Record) -> tuple[Any, ...]:
    """Order records by what is computed, then by who computes it and over what."""
    config = record.config
    model = (config["model"]["d_model"], config["model"]["name"])
    # A key may be unset in one record and have a value in another.
    values = [(v is not None, v) for key, v in config["experiment"].items() if key != "name"]
    names = (config["system"]["name"], config["network"]["name"], config["shaper"]["name"])
    return (*(model if uses_model(rows.experiment(record)) else ()), *values, *names)


def uses_model(experiment: str) -> bool:
    """Whether the model plays a part in an experiment."""
    return EXPERIMENTS.get(experiment, ExperimentConfig).uses_model


def _what_columns(name: str, records: Sequence[Record]) -> list[Column]:
    keys = dict.fromkeys(
        key
        for r in records
        for key, value in r.config["experiment"].items()
        if key not in HIDDEN and value is not None
    )
    experiment = [config_column(key, f"experiment.{key}", right=True) for key in keys]
    if not uses_model(name):
        return experiment
    width = config_column("d", "model.d_model", right=True)
    return [config_column("model", "model.name"), width, *experiment]


def config_column(head: str, key: str, right: bool = False) -> Column:
    """The value of one key of the configuration."""

    def cell(record: Record) -> str:
        return plain(record.flat.get(key))

    return Column(head, cell, right, foldable=True)


def _full_speed_column(phase: str) -> Column:
    def short(record: Record) -> str:
        times = rows.phase_spread(record, phase)
        return "–" if times is None else format_ns(times.median)

    def cell(record: Record) -> str:
        found = record.phases.get(phase)
        computed = found.computed_ns if found else None
        return short(record) + (f" ({format_ns(computed)})" if computed else "")

    return Column(phase, cell, right=True, short=short)


def plain(value: Any) -> str:
    """A value of a configuration, as a cell."""
    if isinstance(value, list):
        return "×".join(str(item) for item in value)
    if isinstance(value, float):
        return f"{value:g}"
    return "–" if value is None else spell(value)


def _status(record: Record) -> str:
    # The numbers of a run whose link was off stand, but never without a mark.
    return record.status + "*" * selection.outside(record)


def _network(record: Record) -> str:
    network: Mapping[str, Any] = record.config["network"]
    rate = network.get("rate_mbit")
    speed = format_rate(None if rate is None else rate * 1e6)
    return f"{record.network.name} ({network['rtt_ms']:g} ms, {speed})"


def _online(record: Record) -> str:
    times = rows.phase_spread(record, "online")
    return format_spread(times) if times else "–"


def hops_text(record: Record) -> str:
    """Hops of the online phase, as a cell."""
    hops = record.phases["online"].hops if "online" in record.phases else None
    return "–" if hops is None else str(hops)


def _online_bytes(record: Record) -> str:
    if "online" not in record.phases:
        return "–"
    return format_bytes(rows.payload_bytes(record, "online"))


def sum_text(record: Record) -> str:
    """Online and offline time together, as a cell."""
    total = rows.sum_ns(record)
    return "–" if total is None else format_ns(total)


def _error(record: Record) -> str:
    return "–" if record.correctness is None else error_text(record.correctness.value)


def exact_error(record: Record) -> float | None:
    """The error against the exact model."""
    return None if record.correctness is None else record.correctness.exact


def _exact_error(record: Record) -> str:
    value = exact_error(record)
    return "–" if value is None else error_text(value)


def _stored(record: Record) -> str:
    """Sizes at P0 / P1 / …, as declared."""
    stored = record.stored_bytes
    return "–" if stored is None else " / ".join(format_bytes(size) for size in stored.values())


def error_text(value: float) -> str:
    """A relative error spans orders of magnitude; a count of wrong answers is 0 or a few."""
    return digits(value) if value == 0 or value >= 0.1 else f"{value:.1e}"


def _date(record: Record) -> str:
    return str(record.environment.get("date", "–"))[:16].replace("T", " ")
