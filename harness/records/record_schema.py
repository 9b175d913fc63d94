"""The JSON Schema of a record, made from the dataclasses that it is written from.

Checked are the keys that this program knows, in records of every schema once they are migrated. A key
that is newer than a record may be missing; one that no version has written may stand in `config` and
`environment`, whose keys change more often than the form of the rest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from harness.config.experiments import EXPERIMENTS
from harness.config.schema import RunConfig
from harness.config.systems import system_schema
from harness.records.json_check import ANY, Schema
from harness.registry import OPERATORS, OURS

LARGEST = 2**63  # of whole numbers: ns, bytes and counts are below
NUMBERS_AS_TEXT = ["nan", "inf", "-inf"]  # what JSON has no number for
TEXT, WHOLE = {"type": "string"}, {"type": "integer", "minimum": -LARGEST, "maximum": LARGEST}
NUMBER: Schema = {"type": "number"}
PLAIN: dict[Any, Schema] = {
    str: TEXT,
    bool: {"type": "boolean"},
    int: WHOLE,
    float: NUMBER,
    NoneType: {"type": "null"},
    Any: ANY,
}
ENVIRONMENT: dict[str, Any] = {
    "date": str | None,
    "cpu_model": str | None,
    "cores": int | None,
    "usable_cores": int | None,
    "governor": str | None,
    "load_average": list[float] | None,
    "memory_bytes": int | None,
    "memory_available_bytes": int | None,
    "kernel": str | None,
    "platform": str | None,
    "python": str | None,
    "packages": dict[str, str | None] | None,
    "image": str | None,
}


CALIBRATION = "calibration"  # the experiment's name in what permbench calibrate stores


@cache
def record_schema(kind: type[Any]) -> Schema:
    """The JSON Schema (draft 2020-12) of `kind`, which is `Record`."""
    made = _of_dataclass(kind)
    known = made["properties"]
    known |= {"config": _config(), "environment": _environment(), "generated": _generated()}
    known["correctness"] = _with_text_numbers(known["correctness"])
    measured = {"type": "object", "additionalProperties": _with_text_numbers(_link())}
    known["network"]["properties"]["measured"] = measured
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "record", **made}


def _of_dataclass(kind: type[Any], strict: bool = True) -> Schema:
    """strict: whether other keys are refused."""
    hints = get_type_hints(kind)
    need = [f.name for f in fields(kind) if f.default is f.default_factory is MISSING]
    known = {f.name: _of(hints[f.name]) for f in fields(kind)}
    made = {"type": "object", "properties": known, "required": need}
    return made if not strict else made | {"additionalProperties": False}


def _of(hint: Any) -> Schema:
    """The schema of a type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if origin in (UnionType, Union):
        return {"anyOf": [_of(each) for each in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (list, tuple):
        return {"type": "array", "items": _of(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1])}
    if is_dataclass(hint):
        return _of_dataclass(cast(type[Any], hint))
    raise TypeError(f"no schema for {hint}")


def _config() -> Schema:
    """The configuration: each group's known keys; what an experiment has besides, and a system of ours."""
    made = _open(_of_dataclass(RunConfig, strict=False))
    groups = made["properties"]
    experiments = {name: _of_dataclass(kind, strict=False) for name, kind in EXPERIMENTS.items()}
    groups["experiment"]["properties"]["name"] = {"enum": [*EXPERIMENTS, CALIBRATION]}
    groups["experiment"]["allOf"] = list(_by_name(experiments))
    systems = {name: _of_dataclass(system_schema(name), strict=False) for name in OURS | OPERATORS}
    groups["system"]["allOf"] = list(_by_name(systems))
    return made


def _by_name(schemas: Mapping[str, Schema]) -> Iterator[Schema]:
    for name, schema in schemas.items():
        yield {"if": {"properties": {"name": {"enum": [name]}}}, "then": schema}


def _open(schema: Schema) -> Schema:
    """The same with other keys allowed, in nested objects too."""
    inner = {key: _open(each) for key, each in schema.get("properties", {}).items()}
    kept = {
        key: each
        for key, each in schema.items()
        if key != "additionalProperties" or each is not False
    }
    return kept | ({"properties": inner} if inner else {})


def _environment() -> Schema:
    code: Schema = {
        "type": "object",
        "properties": {"code": TEXT, "system": _of(str | None)},
        "required": ["code", "system"],
    }
    git: Schema = {
        "type": "object",
        "properties": {"commit": _of(str | None), "dirty": _of(bool | None)},
    }
    null = PLAIN[NoneType]
    known = {key: _of(hint) for key, hint in ENVIRONMENT.items()}
    both = {"git": {"anyOf": [git, null]}, "sources": {"anyOf": [code, null]}}
    return {"type": "object", "properties": known | both}


def _link() -> Schema:
    """What calibration measured of a link (`netem.measurement.LinkMeasurement`)."""
    times = ("expected_s", "seconds")
    rung = _object({"bytes": int, **dict.fromkeys(times, float), "error": float | None})
    rates = {"expected_bit_s": float | None, "bulk_bit_s": float, "both_bit_s": float}
    errors = {"bulk_error": float | None, "both_error": float | None}
    direction = _object(rates | errors)
    direction["properties"]["ladder"] = {"type": "array", "items": rung}
    direction["required"].append("ladder")
    link = _object({"rtt_s": float, "expected_rtt_s": float, "rtt_error": float | None})
    link["properties"] |= {"forward": direction, "backward": direction}
    return link | {"required": [*link["properties"]]}


def _object(hints: Mapping[str, Any]) -> Schema:
    """An object with all these keys, and perhaps others."""
    known = {key: _of(hint) for key, hint in hints.items()}
    return {"type": "object", "properties": known, "required": [*known]}


def _with_text_numbers(schema: Schema) -> Schema:
    """The same, with those numbers that JSON lacks, as text."""
    if schema == NUMBER:
        return {"anyOf": [NUMBER, {"enum": NUMBERS_AS_TEXT}]}
    made = dict(schema)
    if "properties" in schema:
        inner = schema["properties"].items()
        made["properties"] = {name: _with_text_numbers(each) for name, each in inner}
    if "items" in schema:
        made["items"] = _with_text_numbers(schema["items"])
    if "anyOf" in schema:
        made["anyOf"] = [_with_text_numbers(each) for each in schema["anyOf"]]
    return made


def _generated() -> Schema:
    tokens = {"prompt_tokens": list[int], "tokens": list[int], "text": str | None}
    known: Schema = {
        "type": "object",
        "properties": {key: _of(hint) for key, hint in tokens.items()},
    }
    return {"anyOf": [known, PLAIN[NoneType]]}
