"""What to call the lines of a figure: what tells them apart, and what all of them have in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.records import query as rows
from harness.records import selection
from harness.records.record import Record
from harness.records.stats import format_rate
from harness.report.columns import HIDDEN, RUNNER, plain, uses_model
from harness.report.styles import REUSED, name_of

NETWORK = ("network.name", "network.rtt_ms", "network.rate_mbit")
NAMED = (*NETWORK, REUSED, "shaper.name", "system.name")  # by facts that have words of their own
STATED = ("system", "model", "network", "shaper")  # in a title too, as is the experiment
Facts = dict[str, str]
Leaves = Callable[[str], bool]  # which keys are no matter of a label


def labels(records: Sequence[Record], leave: Leaves = lambda key: False) -> tuple[list[str], str]:
    """What tells each of `records` from the others, its system first; and what they have in common, for
    a title. Where there is one alone its label is its system."""
    facts = _facts(records, leave)
    titles = list(dict.fromkeys(title for fact in facts for title in fact))
    varying = [t for t in titles if len({fact.get(t) for fact in facts}) > 1]
    if len(records) == 1 or not varying:
        varying = ["system"]
    stated = [t for t in titles if t in STATED or t.startswith("experiment.")]
    common = [facts[0].get(t, "") for t in stated if t not in varying]
    names = [", ".join(fact[t] for t in varying if fact.get(t)) for fact in facts]
    return _unlike(names, records), ", ".join(text for text in common if text)


def _facts(records: Sequence[Record], leave: Leaves) -> list[Facts]:
    flats = [_kept(record, leave) for record in records]
    more = [key for key in rows.varying(flats) if selection.matters(key) and key not in NAMED]
    conditions = {
        name: selection.condition_texts(name, records)
        for name in selection.varying_conditions(records)
    }
    return [
        _fact(record, flat, more) | {name: text(record) for name, text in conditions.items()}
        for record, flat in zip(records, flats, strict=True)
    ]


def _kept(record: Record, leave: Leaves) -> dict[str, Any]:
    flat = {k: v for k, v in record.flat.items() if not leave(k)}
    if uses_model(rows.experiment(record)):
        return flat
    return {key: value for key, value in flat.items() if not key.startswith("model.")}


def _fact(record: Record, flat: Mapping[str, Any], more: Sequence[str]) -> Facts:
    facts = {"system": name_of(record), "model": str(flat.get("model.name", ""))}
    facts |= {
        key: f"{key.removeprefix('experiment.')}={plain(value)}"
        for key, value in flat.items()
        if key.startswith("experiment.")
        and key.removeprefix("experiment.") not in HIDDEN
        and value is not None
    }
    facts |= {"network": link_text(flat), "shaper": _shaper(flat)}
    facts[RUNNER] = f"runner {flat[RUNNER]}" if RUNNER in flat else ""
    return facts | {key: f"{key}={plain(flat[key])}" for key in more if key in flat}


def link_text(flat: Mapping[str, Any]) -> str:
    """What is left of name, round-trip time and rate; nothing where the network is not applied."""
    if flat.get("shaper.name") == "none":
        return ""
    name, rtt = flat.get("network.name"), flat.get("network.rtt_ms")
    parts = [f"{rtt:g} ms"] if rtt is not None else []
    if "network.rate_mbit" in flat:
        rate = flat["network.rate_mbit"]
        parts.append(format_rate(None if rate is None else rate * 1e6))
    return f"{name} ({', '.join(parts)})" if name and parts else ", ".join(parts)


def _shaper(flat: Mapping[str, Any]) -> str:
    """The emulated link is the rule and needs no words."""
    shaper = flat.get("shaper.name", "emulated")
    return {"none": "no shaping", "emulated": ""}.get(shaper, f"shaper {shaper}")


def _unlike(names: Sequence[str], records: Sequence[Record]) -> list[str]:
    """The names; with the beginning of the id where two are the same."""
    return [
        name if names.count(name) == 1 else f"{name}, {record.id[:6]}"
        for name, record in zip(names, records, strict=True)
    ]
