"""Our systems beside the originals that they follow: times, bytes and errors, on the same links."""

from collections.abc import Iterator, Sequence
from statistics import median

from harness.records import query as rows
from harness.records import ratio, selection
from harness.records.record import Record
from harness.records.stats import LEAST, digits, format_bytes, format_ns
from harness.registry import PEERS
from harness.report.columns import plain
from harness.report.labels import link_text
from harness.report.styles import name_of
from harness.report.text_table import TextTable

HEADS = (
    "computed",
    "network",
    "ours",
    "time",
    "original",
    "time",
    "×",
    "bytes online",
    "original",
    "×",
    "error",
)
NO_SHAPING = "no shaping"


def peer_table(records: Sequence[Record]) -> TextTable:
    """A row for each run of a peer that has one of ours beside it, in the order of what is computed.

    time: median of online and offline together, for originals deal as they go. ×: the original's value over
    ours; of times with its 95 % interval, over pairs of evaluations where both took turns. error: against
    their functions in the clear, ours and the original's. *: a link that was outside tolerance.
    """
    cells = tuple(_cells(ours, peer) for ours, peer in sorted(_pairs(records), key=_order))
    names = {0, 1, 2, 4}
    return TextTable("", HEADS, tuple(place not in names for place in range(len(HEADS))), cells)


def _pairs(records: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    measured = [record for record in records if record.status == "ok"]
    for peer in measured:
        name = PEERS.get(selection.system_name(peer))
        for ours in measured:
            if selection.system_name(ours) == name and _alike(ours, peer):
                yield ours, peer


def _alike(ours: Record, peer: Record) -> bool:
    keys = ("threads", "seed")
    same = [record.config.get(key) for record in (ours, peer) for key in keys]
    return _asked(ours) == _asked(peer) and same[:2] == same[2:]


def _asked(record: Record) -> tuple[str, str]:
    """What is computed, and over which links."""
    return _computed(record), _network(record)


def _computed(record: Record) -> str:
    experiment = record.config["experiment"]
    match experiment["name"]:
        case "argmax":
            return f"argmax of {experiment['n']}"
        case "nonlinear":
            return f"{experiment['op']} of {plain(experiment['shape'])}"
        case "linear":
            return f"linear {experiment['d_in']} to {experiment['d_out']}, {experiment['n']} rows"
        case "layer":
            past = experiment["kv_len"] - experiment["q_len"]
            tokens = f"{experiment['q_len']} tokens" if experiment["q_len"] > 1 else "1 token"
            after = f" after {past}" if past else ""
            return f"layer of {record.config['model']['name']}, {tokens}{after}"
    return str(experiment["name"])


def _network(record: Record) -> str:
    return link_text(record.flat) or NO_SHAPING


def _order(pair: tuple[Record, Record]) -> tuple[object, ...]:
    ours, _ = pair
    kinds = ("argmax", "nonlinear", "layer")
    name = rows.experiment(ours)
    place = kinds.index(name) if name in kinds else len(kinds)
    network = _network(ours)
    return (
        selection.system_name(ours) != "puma",
        place,
        _computed(ours),
        network != NO_SHAPING,
        network,
    )


def _cells(ours: Record, peer: Record) -> tuple[str, ...]:
    bytes_of = [rows.payload_bytes(record, "online") for record in (ours, peer)]
    errors = [record.correctness.value if record.correctness else None for record in (ours, peer)]
    return (
        *_asked(ours),
        *(text for record in (ours, peer) for text in (name_of(record), _time(record))),
        _ratio(ours, peer),
        *map(format_bytes, bytes_of),
        digits(bytes_of[1] / bytes_of[0]),
        " / ".join("–" if error is None else f"{error:.1g}" for error in errors),
    )


def _time(record: Record) -> str:
    return format_ns(median(_times_ns(record))) + "*" * selection.outside(record)


def _times_ns(record: Record) -> list[float]:
    """Of each evaluation, online, with the median of offline work."""
    offline = rows.phase_spread(record, "offline")
    before = 0.0 if offline is None else offline.median
    return [before + online for online in record.phases["online"].wall_ns]


def _ratio(ours: Record, peer: Record) -> str:
    compare = ratio.paired if _in_turns(ours, peer) else ratio.unpaired
    found = compare(_times_ns(ours), _times_ns(peer))
    if found.samples < LEAST:
        return digits(found.ratio)
    return f"{digits(found.ratio)} [{digits(found.low)}–{digits(found.high)}]"


def _in_turns(ours: Record, peer: Record) -> bool:
    """Whether each sample of one has its neighbour among the other's."""
    starts = [record.phases["online"].started_ns for record in (ours, peer)]
    if not all(starts) or len(starts[0]) != len(starts[1]):
        return False
    (a, b) = starts
    return max(a[0], b[0]) < min(a[-1], b[-1]) if len(a) > 1 else False
