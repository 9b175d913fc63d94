"""The records that a replay is asked about, with their traces."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.config.experiments import EXPERIMENTS, ExperimentConfig
from harness.errors import ConfigError, RecordError, TraceError
from harness.records import query as rows
from harness.records import store
from harness.records.record import Record
from harness.records.selection import condition_texts, newest, varying_conditions
from harness.replay.predict import TracedRun
from harness.replay.trace import Trace
from harness.replay.trace_file import load, path_of

HOW_TO = "make one with: permbench run … shaper=none trace=true"
HIDDEN = ("name", "prompt", "tokens")  # of an experiment's values, in a label


def find_traced_runs(
    arguments: Sequence[str], filters: Sequence[str], results_dir: Path
) -> list[TracedRun]:
    """One traced run for each argument: a record's file, or the beginning of an id in `results_dir`. No
    arguments: every record there that has a trace and passes `filters`, which are those of show.

    Raises ConfigError where there is none, or no trace of it.
    """
    if arguments and filters:
        raise ConfigError(filters[0], "chooses among all records; leave it, or the ids, out")
    paths = [_path(argument, results_dir) for argument in arguments]
    records = [_record(path) for path in paths] or _traced(filters, results_dir)
    folders = [path.absolute().parents[1] for path in paths] or [results_dir] * len(records)
    return [
        TracedRun(record, trace_of(folder, record), label)
        for folder, record, label in zip(folders, records, _labels(records), strict=True)
    ]


def _path(argument: str, results_dir: Path) -> Path:
    if argument.endswith(".json"):
        return Path(argument)
    found = store.current_files(results_dir, argument) if argument.isalnum() else []
    if len(found) == 1:
        return found[0]
    ids = ", ".join(path.stem for path in found[:5])
    which = f"begins {len(found)} ids ({ids})" if found else f"begins no id in {results_dir}"
    raise ConfigError(argument, f"{which}; give a record's file, or the beginning of one id")


def _record(path: Path) -> Record:
    try:
        record = store.load(path)
    except (OSError, RecordError) as error:
        raise ConfigError(str(path), str(error)) from None
    if record.status != "ok":
        raise ConfigError(record.id, f"ended as {record.status}: there is nothing to replay")
    return record


def _traced(filters: Sequence[str], results_dir: Path) -> list[Record]:
    records = newest(store.load_current(results_dir))  # a trace is of the last record of its run
    chosen = rows.select(records, rows.parse_filters(filters, records))
    found = [r for r in chosen if r.status == "ok" and path_of(results_dir, r.id).is_file()]
    if not found:
        which = f" with {' '.join(filters)}" if filters else ""
        raise ConfigError("replay", f"no record{which} in {results_dir} has a trace; {HOW_TO}")
    return found


def trace_of(results_dir: Path, record: Record) -> Trace:
    """The trace of a record. Raises ConfigError."""
    try:
        return load(results_dir, record.id)
    except TraceError as error:
        raise ConfigError(record.id, str(error)) from None


def _labels(records: Sequence[Record]) -> list[str]:
    """System and experiment of each, and machine and commit where they differ; where two are the same,
    with the beginning of the id."""
    texts = [condition_texts(name, records) for name in varying_conditions(records)]
    names = [", ".join([_name(record), *(text(record) for text in texts)]) for record in records]
    count = Counter(names)
    return [
        name if count[name] == 1 else f"{name} {record.id[:6]}"
        for name, record in zip(names, records, strict=True)
    ]


def _name(record: Record) -> str:
    config, name = record.config, rows.experiment(record)
    values = [
        f"{key}={value}"
        for key, value in config["experiment"].items()
        if key not in HIDDEN and value is not None
    ]
    model = [config["model"]["name"]] * EXPERIMENTS.get(name, ExperimentConfig).uses_model
    return " ".join([config["system"]["name"], name, *model, *values])
