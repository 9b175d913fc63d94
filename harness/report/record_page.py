"""One record whole, for people: how it ended, what was asked, where, its link, its numbers, its logs."""

from collections.abc import Iterable, Iterator

from harness.config.config_hash import flatten
from harness.config.groups import GROUPS
from harness.errors import spell
from harness.records import query as rows
from harness.records.record import Record
from harness.records.sample_verdict import verdict
from harness.report.link_tables import print_links
from harness.report.operator_tables import print_operators
from harness.report.tables import print_steps, print_tables

PLACE = ("date", "cpu_model", "usable_cores", "load_average", "memory_available_bytes", "kernel",
         "python", "git.commit", "git.dirty", "image")  # fmt: skip


def print_record(record: Record) -> None:
    """Print all of `record` but the raw samples, which --format json has."""
    print(f"{record.status}: {rows.experiment(record)} {record.id}")
    if record.error:
        print(f"  {record.error}")
    for title, lines in (("configuration", _configuration(record)), ("made on", _place(record))):
        _print_section(title, lines)
    print()
    if record.network.measured:
        print_links([record])
    if record.phases:
        _print_verdict(record)
        print_tables([record])
        print_steps([record])
        print_operators([record])
    for role, log in record.logs.items():
        _print_section(f"log of {role}", log)


def _print_verdict(record: Record) -> None:
    judged = verdict(record)
    if judged.judged is not None:
        _print_section(f"verdict of its {judged.judged}: {judged}", judged.reasons)
        print()


def _print_section(title: str, lines: Iterable[str]) -> None:
    print(f"\n{title}")
    for line in lines:
        print(f"  {line}")


def _configuration(record: Record) -> Iterator[str]:
    flat = record.flat
    names = [f"{group}={flat[f'{group}.name']}" for group in GROUPS if f"{group}.name" in flat]
    yield " ".join(names)
    yield from (f"{key}={spell(value)}" for key, value in flat.items() if not key.endswith(".name"))


def _place(record: Record) -> Iterator[str]:
    flat = flatten(record.environment)
    yield from (f"{key}: {spell(flat[key])}" for key in PLACE if flat.get(key) is not None)
