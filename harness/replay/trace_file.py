"""A trace on disk: <results_dir>/traces/<record id>.npz, compressed, written whole or not at all.

Arrays of each role are those of all steps, one after the other, each step's operations ending with
an END; `meta` is a line of JSON. Those of evaluations after waits have a prefix.
"""

import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from harness.errors import TraceError
from harness.parties.trace_recorder import END
from harness.replay.trace import DelayedStep, Ints, RoleTrace, Step, Times, Trace, check
from protocols.party import ROLES, Role

SCHEMA = 4  # of one version of the emulated link, which a traced run is measured over too
FOLDER = "traces"
_OPERATIONS = ("kind", "peer", "wire_bytes")
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
    temporary = path.with_name(f".{trace.record_id}.{os.getpid()}.tmp")
    packed = io.BytesIO()
    np.savez_compressed(packed, **_arrays(trace))
    try:
        with temporary.open("wb") as file:
            file.write(packed.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
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
    arrays = {"meta": np.array(json.dumps(meta)), **_step_arrays("", trace.steps)}
    for number, delayed_step in enumerate(trace.delayed):
        arrays |= _step_arrays(_prefix(number), [delayed_step.step])
    return arrays


def _prefix(number: int) -> str:
    """Of the arrays of one step after waits."""
    return f"rested{number}."


def _step_arrays(prefix: str, steps: Sequence[Step]) -> dict[str, Any]:
    arrays: dict[str, Any] = {f"{prefix}start_ns": np.stack([step.start_ns for step in steps])}
    for role in steps[0].roles:
        traces = [step.roles[role] for step in steps]
        arrays[f"{prefix}{role}.begin_ns"] = np.stack(
            [role_trace.begin_ns for role_trace in traces]
        )
        for name in _OPERATIONS:
            found = [getattr(role_trace, name) for role_trace in traces]
            arrays[f"{prefix}{role}.{name}"] = np.concatenate(found)
        for name in _TIMES:
            times = [getattr(role_trace.times, name) for role_trace in traces]
            arrays[f"{prefix}{role}.{name}"] = np.concatenate(times, axis=1)
    return arrays


def _trace(arrays: Mapping[str, Any]) -> Trace:
    meta = json.loads(str(arrays["meta"]))
    if meta["schema"] != SCHEMA:
        raise TraceError(f"schema {meta['schema']}, this version reads schema {SCHEMA}")
    online = cast(tuple[Role, ...], tuple(meta["online_roles"]))
    delayed = [
        DelayedStep(float(delay_s), _steps(arrays, _prefix(number))[0])
        for number, delay_s in enumerate(meta["rested_s"])
    ]
    steps = tuple(_steps(arrays, ""))
    return check(Trace(str(meta["id"]), online, bool(meta["shaped"]), steps, tuple(delayed)))


def _steps(arrays: Mapping[str, Any], prefix: str) -> list[Step]:
    starts = np.asarray(arrays[f"{prefix}start_ns"], np.int64)
    roles = [role for role in ROLES if f"{prefix}{role}.kind" in arrays]
    traces = {role: _role_traces(arrays, prefix, role, len(starts)) for role in roles}
    return [
        Step(start_ns, {role: traces[role][index] for role in roles})
        for index, start_ns in enumerate(starts)
    ]


def _role_traces(arrays: Mapping[str, Any], prefix: str, role: Role, steps: int) -> list[RoleTrace]:
    """One role's traces, one for each step."""
    found: dict[str, Ints] = {
        name: np.asarray(arrays[f"{prefix}{role}.{name}"], np.int64)
        for name in ("begin_ns", *_OPERATIONS, *_TIMES)
    }
    cuts = (found["kind"] == END).nonzero()[0][:-1] + 1
    parts = {name: np.split(found[name], cuts, axis=-1) for name in (*_OPERATIONS, *_TIMES)}
    if not len(parts["kind"]) == len(found["begin_ns"]) == steps:
        raise TraceError(f"{role} has {len(parts['kind'])} steps of {steps}")
    return [
        RoleTrace(
            **{name: parts[name][step] for name in _OPERATIONS},
            times=Times(**{name: parts[name][step] for name in _TIMES}),
            begin_ns=found["begin_ns"][step],
        )
        for step in range(steps)
    ]
