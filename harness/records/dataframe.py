"""Records as pandas tables, with a documented set of columns."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from harness.errors import ConfigError, rejected
from harness.records import draft_gain
from harness.records.query import TIMED_PHASES, experiment, flat_row
from harness.records.record import Record
from harness.records.selection import newest
from harness.records.store import load_all
from protocols.party import ROLES

if TYPE_CHECKING:
    import pandas as pd

Rows = Literal["runs", "samples", "steps", "operators"]

_OF_PHASE = {
    "median_ns": "wall time, median of the samples, ns",
    "min_ns": "wall time, least, ns",
    "max_ns": "wall time, most, ns",
    "q1_ns": "wall time, first quartile, ns",
    "q3_ns": "wall time, third quartile, ns",
    "p95_ns": "wall time, 95th percentile, ns; of 20 samples or more",
    "samples": "number of measured evaluations",
    "computed_ns": "what its bytes and hops alone would take on the network, computed, ns",
    "hops": "one-way messages on the critical path",
    "messages": "messages of all roles",
    "payload_bytes": "payload of all roles, bytes",
    "wire_bytes": "payload and framing of all roles, bytes",
}
# Columns of `load(rows="runs")`, beside one for each configuration key.
COLUMNS: dict[str, str] = {
    "id": "name of the record: hash of the configuration",
    "status": "ok, unsupported, failed, timeout or incorrect",
    "error": "why it is not ok",
    **{
        f"{phase}.{key}": f"{phase}: {what}"
        for phase in TIMED_PHASES
        for key, what in _OF_PHASE.items()
    },
    "correctness.metric": "how the answer was compared with plaintext",
    "correctness.value": "largest error over all evaluations, in that metric, against the system's own "
    "approximation",
    "correctness.exact": "the same against the exact model in float64",
    "correctness.tolerance": "largest error that is accepted",
    "correctness.ok": "whether the answer was right",
    "verdict": "good, or what its samples say against its online time: few, short, spread, outliers, drift",
    "verdict_reason": "the same with numbers",
    **{f"verify.{key}": f"experiment=verify: {what}" for key, what in draft_gain.COLUMNS.items()},
    "pytorch.median_ns": "experiment=slowdown: PyTorch in the clear, median, ns",
    "slowdown": "experiment=slowdown: log10 of online.median_ns / pytorch.median_ns",
    "within_tolerance": "whether calibration found every link as its profile says",
    **{
        f"stored_bytes.{role}": f"what {role} keeps of the model, bytes; so for each role that there is"
        for role in ROLES
    },
    "environment.date": "when it was measured, UTC",
    "environment.cpu_model": "processor",
    "environment.cores": "cores of the machine",
    "environment.usable_cores": "cores that the harness may use",
    "environment.memory_bytes": "memory of the machine, bytes",
    "environment.governor": "the processor's frequency governor",
    "environment.kernel": "operating system's kernel",
    "environment.python": "version of Python",
    "environment.git.commit": "commit of the code",
    "environment.git.dirty": "whether the code had changes beside that commit",
    "environment.sources.code": "digest of the code that can change a number",
}


def load(
    folder: str | Path = "results/runs", rows: Rows = "runs", replaced: bool = False
) -> "pd.DataFrame":
    """The newest record of each run and machine in `folder` as a table; with `replaced` the older ones
    too. Rows whose `environment.sources.code` or machine differ were not made alike.

    rows: "runs", a row a record, in the columns of `COLUMNS` and one for each configuration key;
    "samples", a row a measured evaluation (id, experiment, system, sample, and the wall time of each
    phase in ns, and when online began in ns of Unix time, where known); "steps", a row a token of a
    generation (id, experiment, system, evaluation, step, and the fields of a step: kind, tokens,
    wall_ns, offline_wall_ns, hops, payload_bytes); "operators", a row a role and operator of a traced
    run (id, experiment, system, and the fields of an operator: role, operator, compute_wall_ns,
    compute_cpu_ns, wait_ns, messages, payload_bytes, hops). A broken
    file is a warning on stderr. Raises ConfigError for a folder that is not there.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ConfigError("folder", f"{path} is not a folder")
    if rows not in get_args(Rows):
        raise rejected("rows", rows, "runs, samples, steps or operators")
    records = load_all(path)
    return frame(records if replaced else newest(records), rows)


def frame(records: Sequence[Record], rows: Rows = "runs") -> "pd.DataFrame":
    """Records as a table; see `load`."""
    import pandas as pd  # noqa: PLC0415 - slow to import

    makers = {"runs": _runs, "samples": _samples, "steps": _steps, "operators": operator_rows}
    return pd.DataFrame([row for record in records for row in makers[rows](record)])


def _runs(record: Record) -> Iterator[dict[str, Any]]:
    yield flat_row(record)


def _samples(record: Record) -> Iterator[dict[str, Any]]:
    """Phases of every evaluation; prepare is made once a run, and stands in each."""
    walls = {name: phase.wall_ns for name, phase in record.phases.items()}
    for sample in range(len(walls.get("online", ()))):
        times = {
            f"{name}_ns": wall[sample if len(wall) > 1 else 0]
            for name, wall in walls.items()
            if wall
        }
        began = record.phases["online"].started_ns
        started = {"online_started_ns": began[sample]} if began else {}
        yield {**_whose(record), "sample": sample, **times, **started}


def _steps(record: Record) -> Iterator[dict[str, Any]]:
    number, evaluation = 0, -1
    for step in record.steps:
        number = number + 1 if step.evaluation == evaluation else 0
        evaluation = step.evaluation
        yield {**_whose(record), "step": number, **asdict(step)}


def operator_rows(record: Record) -> Iterator[dict[str, Any]]:
    """A row a role and operator; none of a record that was not traced."""
    for operator in record.operators or ():
        yield {**_whose(record), **asdict(operator)}


def _whose(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "experiment": experiment(record),
        "system": record.config["system"]["name"],
    }
