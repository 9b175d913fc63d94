"""A trace on disk: <results_dir>/traces/<record id>.npz, compressed, written whole or not at all.

Arrays of each role are those of all steps, one after the other, each step's operations ending with
an END; `meta` is a line of JSON, with the table that each operation's label is a place in. Arrays of
evaluations after waits have a prefix. Files of schema 4 have neither labels nor payload sizes: their
labels are read as "", and their wire bytes stand for the payload too.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from harness.errors import TraceError
from harness.parties.trace_recorder import END
from harness.records.store import write_whole
from harness.replay.trace import DelayedStep, Ints, RoleTrace, Step, Times, Trace, check
from protocols.party import ALL_ROLES, Role

SCHEMA, OLDEST = (
    5,
    4,
)  # since 4 the emulated link, over which a traced run is measured too, is the same
FOLDER = "traces"
_OPERATIONS = ("kind", "peer", "wire_bytes", "payload_bytes")
_TIMES = tuple(Times.__dataclass_fields__)
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    zipfile.BadZipFile,
    zlib.error,
)


def path_of(results_dir: Path, record_id: str) -> Path:
    """The file of one record's trace."""
    return results_dir / FOLDER / f"{record_id}.npz"


def save(results_dir: Path, trace: Trace) -> Path:
    """Write `trace` atomically and return its path. A crash leaves the old file or none."""
    path = path_of(results_dir, trace.record_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    np.savez_compressed(packed, **_arrays(trace))
    write_whole(path, packed.getvalue())
    return path


def load(results_dir: Path, record_id: str) -> Trace:
    """The trace of a record. Raises TraceError, in one line, also where there is none."""
    path = path_of(results_dir, record_id)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            trace = _trace(arrays)
    except FileNotFoundError:
        raise TraceError(
            f"{path}: there is no trace; run it again with trace=true force=true"
        ) from None
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None
    except _BROKEN as error:
        raise TraceError(f"{path}: not a whole trace: {error}") from None
    if trace.record_id != record_id:
        raise TraceError(f"{path}: it is the trace of {trace.record_id}")
    return trace


def _arrays(trace: Trace) -> dict[str, Any]:
    meta = {
        "schema": SCHEMA,
        "id": trace.record_id,
        "online_roles": trace.online_roles,
        "shaped": trace.shaped,
        "rested_s": [delayed_step.delay_s for delayed_step in trace.delayed],
    }
    labels: dict[str, int] = {}
    arrays = _step_arrays("", trace.steps, labels)
    for number, delayed_step in enumerate(trace.delayed):
        arrays |= _step_arrays(_prefix(number), [delayed_step.step], labels)
    return {"meta": np.array(json.dumps({**meta, "labels": list(labels)})), **arrays}


def _prefix(number: int) -> str:
    """Of the arrays of one step after waits."""
    return f"rested{number}."


def _step_arrays(prefix: str, steps: Sequence[Step], labels: dict[str, int]) -> dict[str, Any]:
    """The arrays of some steps; `labels` grows by those that are new."""
    arrays: dict[str, Any] = {f"{prefix}start_ns": np.stack([step.start_ns for step in steps])}
    for role in steps[0].roles:
        traces = [step.roles[role] for step in steps]
        arrays[f"{prefix}{role}.begin_ns"] = np.stack(
            [role_trace.begin_ns for role_trace in traces]
        )
        for name in _OPERATIONS:
            found = [getattr(role_trace, name) for role_trace in traces]
            arrays[f"{prefix}{role}.{name}"] = np.concatenate(found)
        arrays[f"{prefix}{role}.label"] = np.array(
            [
                labels.setdefault(label, len(labels))
                for role_trace in traces
                for label in role_trace.labels
            ]
        )
        for name in _TIMES:
            times = [getattr(role_trace.times, name) for role_trace in traces]
            arrays[f"{prefix}{role}.{name}"] = np.concatenate(times, axis=1)
    return arrays


def _trace(arrays: Mapping[str, Any]) -> Trace:
    meta = json.loads(str(arrays["meta"]))
    if meta["schema"] not in range(OLDEST, SCHEMA + 1):
        wanted = f"schemas {OLDEST} to {SCHEMA}"
        raise TraceError(f"schema {meta['schema']}, this version reads {wanted}")
    if meta["schema"] == OLDEST:
        arrays, meta = _from_4(arrays), {**meta, "labels": [""]}
    online = cast(tuple[Role, ...], tuple(meta["online_roles"]))
    labels = [str(label) for label in meta["labels"]]
    delayed = [
        DelayedStep(float(delay_s), _steps(arrays, _prefix(number), labels)[0])
        for number, delay_s in enumerate(meta["rested_s"])
    ]
    steps = tuple(_steps(arrays, "", labels))
    return check(Trace(str(meta["id"]), online, bool(meta["shaped"]), steps, tuple(delayed)))


def _from_4(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """See the module."""
    added = {}
    for name, array in arrays.items():
        if name.endswith(".wire_bytes"):
            added[name.replace("wire_bytes", "payload_bytes")] = array
            added[name.replace("wire_bytes", "label")] = np.zeros(len(array), np.int64)
    return {**arrays, **added}


def _steps(arrays: Mapping[str, Any], prefix: str, labels: Sequence[str]) -> list[Step]:
    starts = np.asarray(arrays[f"{prefix}start_ns"], np.int64)
    roles = [role for role in ALL_ROLES if f"{prefix}{role}.kind" in arrays]
    traces = {role: _role_traces(arrays, prefix, role, labels) for role in roles}
    for role, found in traces.items():
        if len(found) != len(starts):
            raise TraceError(f"{role} has {len(found)} steps of {len(starts)}")
    return [
        Step(start_ns, {role: traces[role][index] for role in roles})
        for index, start_ns in enumerate(starts)
    ]


def _role_traces(
    arrays: Mapping[str, Any], prefix: str, role: Role, labels: Sequence[str]
) -> list[RoleTrace]:
    """One role's traces, one for each step."""
    found: dict[str, Ints] = {
        name: np.asarray(arrays[f"{prefix}{role}.{name}"], np.int64)
        for name in ("begin_ns", "label", *_OPERATIONS, *_TIMES)
    }
    cuts = (found["kind"] == END).nonzero()[0][:-1] + 1
    names = (*_OPERATIONS, *_TIMES, "label")
    parts = {name: np.split(found[name], cuts, axis=-1) for name in names}
    steps = len(parts["kind"])
    if len(found["begin_ns"]) != steps:
        raise TraceError(f"{role} began {len(found['begin_ns'])} steps of {steps}")
    if found["label"].size and not 0 <= found["label"].min() <= found["label"].max() < len(labels):
        raise TraceError(f"{role} has a label that is not in the table")
    return [
        RoleTrace(
            **{name: parts[name][step] for name in _OPERATIONS},
            labels=tuple(labels[place] for place in parts["label"][step]),
            times=Times(**{name: parts[name][step] for name in _TIMES}),
            begin_ns=found["begin_ns"][step],
        )
        for step in range(steps)
    ]
