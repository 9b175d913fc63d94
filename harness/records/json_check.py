"""Whether parsed JSON keeps a JSON Schema, and if not, which key does not.

Knows the part of JSON Schema that `harness.records.record_schema` uses, and no more.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any

from harness.errors import spell

Schema = dict[str, Any]
ANY: Schema = {}
NAMES = {
    "string": "a text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
TYPES: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "null": NoneType,
    "array": list,
    "object": dict,
}
SHOWN = 40  # characters of a wrong value


def problem(data: Any, schema: Schema, at: str = "") -> str | None:
    """The first key of `data` that does not keep `schema`, and what is allowed; None where all do."""
    return next(_problems(data, schema, at), None)


def _problems(data: Any, schema: Schema, at: str) -> Iterator[str]:
    where = at or "record"
    if "anyOf" in schema:
        yield from _any_of(data, schema["anyOf"], where)
    if "enum" in schema and not any(data == v and type(data) is type(v) for v in schema["enum"]):
        yield f"{where}: {_shown(data)}, must be {_or(map(str, schema['enum']))}"
    if "type" in schema and not _is(data, schema["type"]):
        yield f"{where}: {_shown(data)}, must be {NAMES[schema['type']]}"
    elif not schema.get("minimum", -math.inf) <= _size(data) <= schema.get("maximum", math.inf):
        yield f"{where}: {_shown(data)}, must be at most 2^63"
    elif isinstance(data, dict):
        yield from _of_object(data, schema, at)
    elif isinstance(data, list):
        for number, each in enumerate(data):
            yield from _problems(each, schema.get("items", ANY), f"{at}[{number}]")


def _of_object(data: Mapping[str, Any], schema: Schema, at: str) -> Iterator[str]:
    head, known = f"{at}." if at else "", schema.get("properties", {})
    others = schema.get("additionalProperties", ANY)
    for key in schema.get("required", ()):
        if key not in data:
            yield f"{head}{key}: is missing"
    for key, each in data.items():
        if key in known or others is not False:
            yield from _problems(each, known.get(key, others), f"{head}{key}")
        else:
            yield f"{head}{key}: is no key of a record"
    for rule in schema.get("allOf", ()):
        if problem(data, rule["if"]) is None:
            yield from _of_object(data, rule["then"], at)


def _any_of(data: Any, choices: Sequence[Schema], where: str) -> Iterator[str]:
    """Of several forms: what is wrong inside the one whose type is right, else all that are allowed."""
    found = []
    for each in choices:
        wrong = problem(data, each, where)
        if wrong is None:
            return
        found.append(wrong)
    inside = [text for text in found if not text.startswith(f"{where}:")]
    yield inside[0] if inside else f"{where}: {_shown(data)}, must be {_or(_names(choices))}"


def _names(choices: Sequence[Schema]) -> Iterator[str]:
    for each in choices:
        if "anyOf" in each:
            yield from _names(each["anyOf"])
        elif "enum" in each:
            yield from map(str, each["enum"])
        else:
            yield NAMES[each["type"]]


def _is(data: Any, name: str) -> bool:
    if name == "integer":
        return isinstance(data, int) and not isinstance(data, bool)
    if name == "number":
        return isinstance(data, int | float) and not isinstance(data, bool) and _finite(data)
    return isinstance(data, TYPES[name])


def _finite(data: int | float) -> bool:
    """Also as a float."""
    return abs(data) < 2**1023 if isinstance(data, int) else math.isfinite(data)


def _size(data: Any) -> int | float:
    return data if isinstance(data, int | float) else 0


def _or(texts: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(texts))


def _shown(data: Any) -> str:
    """A value, short."""
    if isinstance(data, dict | list):
        return f"got {NAMES['object' if isinstance(data, dict) else 'array']}"
    if isinstance(data, int) and not isinstance(data, bool) and not _finite(data):
        return "got a very large number"
    text = spell(data)
    return f"got {text if len(text) <= SHOWN else text[:SHOWN] + '…'}"
