"""What the gate found, for a terminal, a pull request, a CI system, and a chart over time."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rich.console import Group
from rich.table import Table
from rich.text import Text

from harness.errors import ConfigError
from harness.gate.check import Check, Result, worst
from harness.records.query import payload_bytes, phase_spread
from harness.records.ratio import Verdict
from harness.records.record import Record
from harness.records.stats import digits, format_ns
from harness.report.tables import print_fitting

HEADS = ("row", "run", "counts", "online", "new / old [95 %]", "threshold", "time", "verdict")
STYLES: dict[Verdict, str] = {"fine": "green", "regression": "red", "cannot tell": "yellow"}
EXIT_CODES: dict[Verdict, int] = {"fine": 0, "regression": 1, "cannot tell": 2}
NOT_IN_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def exit_code(results: Sequence[Result]) -> int:
    """0 fine, 1 a regression, 2 cannot tell."""
    return EXIT_CODES[worst(result.verdict for result in results)]


def headline(results: Sequence[Result]) -> str:
    """The whole in one line."""
    verdicts = [result.verdict for result in results]
    counts = [f"{verdicts.count(v)} {v}" for v in STYLES if v in verdicts]
    return f"{worst(verdicts)} ({', '.join(counts)})"


def print_results(results: Sequence[Result]) -> None:
    """A table, a line for each thing that is not fine, and the headline."""
    table = Table(box=None, padding=(0, 1))
    for head in HEADS:
        table.add_column(head, no_wrap=True)
    for result in results:
        cells = _cells(result)
        table.add_row(*cells[:-1], Text(cells[-1], STYLES[result.verdict]))
    print_fitting([Group(Text("gate", "bold"), table)])
    for line in _lines(results):
        print(f" {line}")
    print(f"gate: {headline(results)}")


def markdown(results: Sequence[Result]) -> str:
    """The same for a pull request or a job's summary."""
    table = [HEADS, ("---",) * len(HEADS), *map(_cells, results)]
    lines = [f"### permbench gate: {headline(results)}", ""]
    lines += [f"| {' | '.join(_escaped(cell) for cell in cells)} |" for cells in table]
    notes = [f"- {_escaped(line)}" for line in _lines(results)]
    return "\n".join([*lines, *([""] if notes else []), *notes, ""])


def junit(results: Sequence[Result]) -> str:
    """JUnit XML: one test case for each check of each row."""
    checks = [check for result in results for check in result.checks]
    totals = {
        "tests": len(checks),
        "failures": sum(check.verdict == "regression" for check in checks),
        "errors": sum(check.verdict == "cannot tell" for check in checks),
        "skipped": sum(check.verdict is None for check in checks),
    }
    attributes = {"name": "permbench gate"} | {key: str(count) for key, count in totals.items()}
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", attributes)
    for result in results:
        for check in result.checks:
            names = {"classname": _clean(result.row.name), "name": check.kind}
            _outcome(ElementTree.SubElement(suite, "testcase", names), check)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def benchmark(results: Sequence[Result]) -> str:
    """The list that github-action-benchmark reads as customSmallerIsBetter."""
    entries = [
        {"name": f"{result.row.name}: {name}", **entry}
        for result in results
        if result.record and result.record.phases
        for name, entry in _entries(result.record, result.timed)
    ]
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"


def write(path: Path, text: str) -> None:
    """Write an output. Raises ConfigError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), f"cannot be written: {error.strerror}") from None


def _cells(result: Result) -> tuple[str, ...]:
    verdicts = {check.kind: check.verdict or "not compared" for check in result.checks}
    online = phase_spread(result.record, "online") if result.record and result.timed else None
    return (
        result.row.name,
        verdicts.get("run", "–"),
        verdicts.get("counts", "–"),
        format_ns(online.median) if online else "–",
        str(result.ratio) if result.ratio else "–",
        f"{result.row.threshold:g}",
        verdicts.get("time", "–"),
        result.verdict,
    )


def _lines(results: Sequence[Result]) -> Iterator[str]:
    """Every check's words; those that all rows share only once."""
    skipped = {line for r in results for c in r.checks if c.verdict is None for line in c.lines}
    for result in results:
        for check in result.checks:
            if check.verdict is not None:
                yield from (f"{result.row.name}: {check.kind}: {line}" for line in check.lines)
    yield from (f"times not compared: {line}" for line in sorted(skipped))


def _outcome(case: ElementTree.Element, check: Check) -> None:
    tags = {"regression": "failure", "cannot tell": "error", None: "skipped"}
    if check.verdict in tags:
        text = _clean("\n".join(check.lines))
        message = text.partition("\n")[0]
        ElementTree.SubElement(case, tags[check.verdict], {"message": message}).text = text


def _entries(record: Record, timed: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    online = phase_spread(record, "online")
    if timed and online:
        spread = f"± {digits((online.q3 - online.q1) / 2e6)}"
        value = round(online.median / 1e6, 6)
        yield "online time", {"unit": "ms", "value": value, "range": spread}
    size, hops = payload_bytes(record, "online"), record.phases["online"].hops
    yield "online payload", {"unit": "bytes", "value": size, "range": "± 0"}
    yield "online hops", {"unit": "hops", "value": hops, "range": "± 0"}


def _clean(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return NOT_IN_XML.sub("�", text)


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
