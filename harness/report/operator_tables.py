"""Traced runs by operator: what of each role's online time is norm, softmax, … and what is waiting."""

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from harness.config.experiments import EXPERIMENTS, ExperimentConfig
from harness.records import query as rows
from harness.records.record import OperatorRecord, Record
from harness.records.stats import format_bytes, format_ns
from harness.report.tables import print_fitting
from harness.report.text_table import TextTable, for_terminal

HEADS = ("role", "operator", "share", "compute", "CPU", "wait", "messages", "bytes", "hops")
NOTE = (
    "medians of one online evaluation, of a generation one token's. compute: with handling messages; "
    "wait: for messages; share: of the role's compute and wait. messages, bytes: those the role sent; "
    "hops: those of the critical path. layer: between a layer's steps; other: outside all steps."
)


def operator_tables(records: Sequence[Record]) -> Iterator[TextTable]:
    """One table for each record that was traced."""
    for record in records:
        if record.operators is not None:
            yield _table(record, record.operators)


def print_operators(records: Sequence[Record]) -> None:
    """Print them, and under the last what their columns mean."""
    tables = list(operator_tables(records))
    for table in tables:
        print_fitting([for_terminal(table)])
        print()
    if tables:
        print_fitting([Text(NOTE, "dim")])


def _table(record: Record, operators: Sequence[OperatorRecord]) -> TextTable:
    totals: dict[str, int] = {}
    for found in operators:
        totals[found.role] = totals.get(found.role, 0) + _took_ns(found)
    return TextTable(
        _title(record),
        HEADS,
        tuple(head not in ("role", "operator") for head in HEADS),
        tuple(_cells(found, totals) for found in operators),
        (NOTE,),
    )


def _took_ns(found: OperatorRecord) -> int:
    return found.compute_wall_ns + found.wait_ns


def _cells(found: OperatorRecord, totals: Mapping[str, int]) -> tuple[str, ...]:
    share = _took_ns(found) / (totals[found.role] or 1)
    times = (found.compute_wall_ns, found.compute_cpu_ns, found.wait_ns)
    return (
        *(found.role, found.operator, f"{100 * share:.1f} %", *map(format_ns, times)),
        *(str(found.messages), format_bytes(found.payload_bytes), str(found.hops)),
    )


def _title(record: Record) -> str:
    experiment, config = rows.experiment(record), record.config
    model = [config["model"]["name"]] * EXPERIMENTS.get(experiment, ExperimentConfig).uses_model
    names = [experiment, *model, config["system"]["name"], config["network"]["name"]]
    return f"{' '.join(names)} {record.id}, by operator"
