"""The page: it holds the records' own numbers, escapes their texts, loads nothing, and stays small."""

import base64
import hashlib
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.cli.verb_report import PAGE, report
from harness.config.compose import compose_run
from harness.config.config_hash import config_hash
from harness.config.prices import Prices, prices_of
from harness.errors import ConfigError
from harness.records import store
from harness.records.record import OUTSIDE, REMEDY, OperatorRecord, Record, StepRecord
from harness.report.comparison import references
from harness.report.page.beside_papers import published_beside
from harness.report.page.headline import contests, sentences
from harness.report.page.phase_bars import bar_data
from harness.report.page.record_rows import LONGEST, record_table
from harness.report.page.run_command import run_command
from harness.report.page.token_costs import MOST_ROWS, cost_table, token_cost
from harness.reproduce.outcomes import FILE
from tests.many_records import many_records

MakeRecord = Callable[..., Record]
MS = 1_000_000
EVIL = "</script><img src=x onerror=alert(1)>&\"'"
RECORDS = "All records: table"
LAYER = ("experiment=layer", "model=gpt2")


class Read(HTMLParser):
    """The elements of a page, the texts of its scripts and styles, and the cells of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.inner: dict[str, list[str]] = {"script": [], "style": []}
        self.tables: dict[str, list[list[str]]] = {}  # by the name of their region
        self.region = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if ("role", "region") in attrs:
            self.region = dict(attrs)["aria-label"] or ""
        if tag in self.inner:
            self.inner[tag].append("")
        if tag == "tr":
            self.tables.setdefault(self.region, []).append([])
        if tag in ("td", "th"):
            self.tables[self.region][-1].append("")
        if tag not in ("meta", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.inner:
            self.inner[self.open[-1]][-1] += data
        elif {"td", "th"} & set(self.open):
            self.tables[self.region][-1][-1] += data

    def table(self, region: str) -> list[list[str]]:
        """The cells of a table, without its headings."""
        return self.tables[region][1:]


def written(records: Sequence[Record], folder: Path, *arguments: str) -> str:
    for record in records:
        store.save(folder, record)
    report(folder, arguments)
    return (folder / PAGE).read_text("utf-8")


def cells(text: str) -> list[dict[str, str]]:
    heads, *rows = Read(text).tables[RECORDS]
    return [dict(zip(heads, row, strict=True)) for row in rows]


def named(record: Record, name: str) -> Record:
    """With a name of its network that it alone has."""
    network = {**record.config["network"], "name": name}
    changed = {**record.config, "network": network}
    return replace(record, config=changed, network=replace(record.network, name=name), error=name)


def test_what_a_record_says_is_text(make_record: MakeRecord, tmp_path: Path) -> None:
    plain, evil = make_record(LAYER), named(make_record(LAYER, status="failed"), EVIL)
    harmless = Read(written([plain, named(evil, "x")], tmp_path / "harmless"))
    read = Read(written([plain, evil], tmp_path / "evil"))
    assert read.tags == harmless.tags
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    (row,) = (
        row for row in cells((tmp_path / "evil" / PAGE).read_text()) if row["status"] == "failed"
    )
    assert EVIL in row["network"]
    assert row["reason"] == EVIL


def test_a_page_allows_no_more_than_its_own_script_and_style(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    read = Read(written([make_record(LAYER), make_record()], tmp_path))
    (policy,) = (value for name, value in read.attributes if "default-src" in value)
    rules = dict(part.split(" ", 1) for part in policy.split("; "))
    data, script = read.inner["script"]
    styles = read.inner["style"]
    assert rules == {
        "default-src": "'none'",
        "script-src": f"'{digest(script)}'",
        "style-src": " ".join(f"'{digest(style)}'" for style in styles),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert json.loads(data)["bars"]
    names = {name for name, _ in read.attributes}
    assert not names & {"style", "srcset"}
    links = [value for name, value in read.attributes if name in ("src", "href")]
    assert links
    assert not [link for link in links if not link.startswith(("#", "data:"))]
    ids = [value for name, value in read.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {link[1:] for link in links if link.startswith("#")}
    assert targets <= set(ids)


def digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def test_rows_are_those_of_the_tables(make_record: MakeRecord, tmp_path: Path) -> None:
    """Newest first of each run, numbers as `show` spells them, marks and reasons."""
    good = make_record([*LAYER, "repeat=7"], wall_ns=[20 * MS, 30 * MS, 31 * MS])
    off = make_record([*LAYER, "system=puma"], wall_ns=[300 * MS], hops=192)
    off = replace(off, network=replace(off.network, within_tolerance=False))
    older = replace(
        make_record(LAYER), environment={**good.environment, "date": "2024-01-01T00:00:00+00:00"}
    )
    bad = make_record([*LAYER, "system=mpcformer"], status="failed")
    rows = {row["system"]: row for row in cells(written([good, off, older, bad], tmp_path))}
    assert len(rows) == 3
    assert rows["permllm"]["online"] == "30.0 ms [20.0–31.0]"
    assert (rows["permllm"]["× online"], rows["puma"]["× online"]) == ("1.00", "10.0*")
    assert (rows["puma"]["status"], rows["puma"]["hops"]) == ("ok*", "192")
    assert rows["puma"]["verdict"] == "few"
    assert rows["puma"]["reason"].startswith(
        "* link outside tolerance; 1 evaluations: fewer than 6"
    )
    assert rows["mpcformer"]["reason"] == "P1: killed by signal 9"
    assert rows["permllm"]["what"] == "d=768 q_len=1 kv_len=128 repeat=7"


def test_unlike_machines_are_named_and_not_compared(make_record: MakeRecord) -> None:
    here = make_record(LAYER)
    there = make_record([*LAYER, "system=puma"])
    there = replace(there, environment={**there.environment, "cpu_model": "Other"})
    table = record_table([here, there])
    shown = [head for head, is_shown in zip(table.heads, table.shown, strict=True) if is_shown]
    assert "machine" in shown
    assert "× online" not in table.heads
    assert any("machine differs" in note for note in table.notes)
    assert not contests([here, there], references([here, there]))


@pytest.mark.parametrize(
    "keys",
    [
        ("experiment.n=5000", "shaper=none", "trace=true", "repeat=4"),
        ("experiment=nonlinear", "experiment.op=softmax", "experiment.shape=[4,32]"),
        (*LAYER, "model.n_layers=3", "system=mpcformer", "system.reuse_weight_masks=true"),
        ("network=puma", "network.rate_mbit=null", "network.links.P1_P0.delay_ms=7",
         "network.links.P1_P0.rate_mbit=3", "runner=netns", "threads=2"),
    ],
)  # fmt: skip
def test_a_rows_command_is_the_run(make_record: MakeRecord, keys: tuple[str, ...]) -> None:
    record = make_record(keys)
    program, verb, *again = shlex.split(run_command(record))
    assert (program, verb) == ("permbench", "run")
    assert config_hash(compose_run(again)) == record.id


def test_the_page_has_every_rows_command(make_record: MakeRecord, tmp_path: Path) -> None:
    records = [make_record([*LAYER, f"threads={n}"]) for n in (1, 2)]
    records += [make_record(["experiment=nonlinear", "experiment.shape=[4,32]"])]
    read = Read(written(records, tmp_path))
    told = json.loads(read.inner["script"][0])["commands"]
    found = [" ".join(told["words"][place] for place in places) for places in told["texts"]]
    rows = [row[0] for row in read.table(RECORDS)]
    assert dict(zip(rows, found, strict=True)) == {r.id[:6]: run_command(r) for r in records}


def test_what_papers_printed_stands_beside(make_record: MakeRecord, tmp_path: Path) -> None:
    """Of the systems of the records, and of all that contradict their own network, with the sum."""
    table = published_beside([make_record(LAYER), make_record([*LAYER, "system=puma"])])
    assert table is not None
    values = {(row[0], row[4]) for row in table.rows}
    assert {("PermLLM", "3 s/token"), ("SHAFT", "28.6 s !")} <= values
    systems = {row[0].partition(" (")[0] for row in table.rows}
    assert {"PermLLM", "Puma"} <= systems
    assert "MPCFormer" not in systems
    text = written([make_record(LAYER)], tmp_path)
    assert "10.5 GB in each direction at 1 Gbit/s take 83.7 s" in text
    assert published_beside([make_record(LAYER)]) != table


def test_outcomes_of_claims_stand_in_the_page(make_record: MakeRecord, tmp_path: Path) -> None:
    row = {"paper": "it", "id": "c1", "said": "3 s", "expected_text": "≤ 3 s"}
    row |= {"outcome": "held", "command": EVIL}
    (tmp_path / FILE).write_text(json.dumps([row]))
    read = Read(written([make_record(LAYER)], tmp_path))
    assert read.table("Claims") == [["c1", "3 s", "≤ 3 s", "–", "held", "–", EVIL]]


def test_what_changed_stands_in_the_page(make_record: MakeRecord, tmp_path: Path) -> None:
    for name, wall in (("a", 20), ("b", 40)):
        ns = [wall * MS + i for i in range(8)]
        store.save(tmp_path / name, make_record([*LAYER, "model=gpt2"], wall_ns=ns))
    report(tmp_path / "b", against=str(tmp_path / "a"))
    read = Read((tmp_path / "b" / PAGE).read_text())
    (name,) = (name for name in read.tables if name.startswith("layer, online time, B against A"))
    ((*_, before, after, ratio, said, _, _, _),) = read.table(name)
    assert (before, after, ratio[:5], said) == ("20.0 ms", "40.0 ms", "2.000", "slower")


def test_the_headline_says_how_many_times(make_record: MakeRecord) -> None:
    ours = make_record(LAYER, wall_ns=[50 * MS])
    theirs = make_record([*LAYER, "system=puma"], wall_ns=[200 * MS])
    near = [
        make_record([*LAYER, "network=loopback"], wall_ns=[30 * MS]),
        make_record([*LAYER, "system=puma", "network=loopback"], wall_ns=[15 * MS]),
    ]
    records = [ours, theirs, *near]
    (contest,) = contests([ours, theirs], references([ours, theirs]))
    told = list(sentences(contest, records, references(records)))
    # Offline work is 12 ms under both.
    assert told[1] == "PermLLM is 4.00 times faster online and 3.42 times faster in all than Puma."
    assert "Puma takes 0.500 times (loopback, 0 ms) to 4.00 times" in told[2]
    assert told[2].endswith("There the order turns.")
    assert "21.6 ms (43 %) is the network alone" in told[3]


def test_the_headline_is_of_runs_over_a_network(make_record: MakeRecord) -> None:
    """Not of those beside them that were traced without one, wider or not."""
    systems = ("system=permllm", "system=puma")
    shaped = [make_record([*LAYER, system]) for system in systems]
    wider = ("experiment=layer", "model=chatglm-6b", "shaper=none", "trace=true")
    traced = [make_record([*wider, system]) for system in systems]
    for records in ([*shaped, *traced], [*traced, *shaped]):
        (contest,) = contests(records, references(records))
        assert {record.id for record in contest.records} == {record.id for record in shaped}
    (contest,) = contests(traced, references(traced))
    assert contest.common == "chatglm-6b, q_len=1, kv_len=128, no shaping"


def test_what_a_token_costs(make_record: MakeRecord) -> None:
    """Two evaluations of a prompt and three tokens more: a token has a quarter of each."""
    steps = [StepRecord(e, "prefill", 16, 90 * MS, 0, 12, 1000) for e in (0, 1)]
    steps += [
        StepRecord(e, "decode", 1, (10 + i) * MS, 0, 12, 1000) for e in (0, 1) for i in range(3)
    ]
    steps.sort(key=lambda step: step.evaluation)
    record = replace(make_record(["experiment=model", "model=tiny"], payload=400_000), steps=steps)
    cost = token_cost(record)
    assert cost is not None
    assert cost.unit == "token"
    assert sorted(cost.times_ns) == [t * MS for t in (10, 10, 11, 11, 12, 12)]
    wire = 2 * 2 * (200_000 + 5000)  # both roles, in two phases
    assert cost.wire_bytes == wire / 4
    prices = Prices("EUR", 2.0, 3600.0, "2026-11", "a test")
    assert cost.money(prices) == pytest.approx((wire / 4 * 2e-9, cost.core_s))
    given = replace(record, phases={**record.phases, "input": record.phases["offline"]})
    more = token_cost(given)
    assert more is not None
    assert more.wire_bytes == cost.wire_bytes * 3 / 2  # what it takes to share the input, too
    # A third of the median, 31 ms, for each role, online and offline.
    assert cost.core_s == pytest.approx(4 * (31 // 3 + 31 % 3 / 3) / 4 / 1000, rel=0.01)


def test_money_is_of_tokens_where_there_are_some(make_record: MakeRecord) -> None:
    """What is left out for room is counted."""
    steps = [
        StepRecord(0, "prefill", 4, 90 * MS, 0, 12, 1000),
        StepRecord(0, "decode", 1, 9, 0, 1, 1),
    ]
    whole = replace(make_record(["experiment=model", "model=tiny"]), steps=steps)
    layers = [make_record(LAYER)] * (MOST_ROWS + 2)
    prices = prices_of([])[0]
    mixed = cost_table([*layers[:2], whole], ["a", "b", "c"], prices)
    assert mixed is not None
    assert [row[:2] for row in mixed.rows] == [("c", "token")]
    many = cost_table(layers, [str(n) for n in range(len(layers))], prices)
    assert many is not None
    assert len(many.rows) == MOST_ROWS
    assert many.notes == ("2 more runs are left out: filters choose.",)


def test_a_refused_run_says_what_to_do_and_a_long_reason_is_cut(make_record: MakeRecord) -> None:
    failed = make_record(LAYER, status="failed")
    errors = {
        f"{OUTSIDE}: P0>P1 is slow": f"{OUTSIDE}: P0>P1 is slow ({REMEDY})",
        "no room": "no room",
    }
    errors["x " * 999] = f"{('x ' * 999)[:LONGEST]}… (permbench show {failed.id})"
    for error, reason in errors.items():
        table = record_table([replace(failed, error=error)])
        assert table.rows[0].cells[table.heads.index("reason")] == reason


def test_bars_are_phases_roles_and_operators(make_record: MakeRecord) -> None:
    plain = make_record(LAYER, wall_ns=[30 * MS, 31 * MS, 50 * MS], payload=400_000, hops=4)
    operator = OperatorRecord("P1", "layer/softmax", 7, 6, 5, 4, 3, 2)
    (bar,) = bar_data([replace(plain, operators=[operator])], ["it"])
    assert [phase[0] for phase in bar["phases"]] == ["online", "offline", "prepare"]
    assert bar["phases"][0] == [
        "online", 31 * MS, 4,
        [["P0", 31 * MS // 3, 200_000, 2], ["P1", 31 * MS // 3, 200_000, 2]],
    ]  # fmt: skip
    assert bar["operators"] == [["P1", "layer/softmax", 7, 5, 3, 4, 2]]
    assert bar_data([make_record(LAYER, status="failed")], ["none"]) == []


def test_prices_are_keys() -> None:
    prices, others = prices_of(["prices.per_gb=0.5", "experiment=layer", "prices.date=2027-01"])
    assert (prices.per_gb, prices.date, others) == (0.5, "2027-01", ["experiment=layer"])
    for wrong in ("prices.per_gb=-1", "prices.per_core_hour=much", "prices.gold=3"):
        with pytest.raises(ConfigError, match=re.escape(wrong.partition("=")[0])):
            prices_of([wrong])


def test_a_page_that_cannot_be_written_is_one_clear_line(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    store.save(tmp_path, make_record())
    with pytest.raises(ConfigError, match="--output"):
        report(tmp_path, output=tmp_path / "nowhere" / "page.html")


@pytest.mark.slow
def test_a_thousand_records_fit(tmp_path: Path) -> None:
    text = written(many_records(1000), tmp_path)
    assert len(cells(text)) == 1000
    assert len(text.encode()) < 3_000_000
