"""What a reader does with the page's parts in Chromium: choices, addresses, bars, arrows, paper."""

import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.cli.verb_report import PAGE, report
from harness.records import store
from harness.records.stats import digits
from tests.browser import missing, open_page, wait_drawn
from tests.harness.report.conftest import RECORDS, TRACES
from tests.many_records import many_records

if missing() is None:
    from playwright.sync_api import expect
if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=f"the page in a browser: {missing()}"),
]
ALL = RECORDS + TRACES
SHOWN = "#records-table tbody tr:not([hidden])"
LANES = """() => Object.fromEntries([...document.querySelectorAll("#timeline-plot svg > text")]
  .filter((one) => /^P[0-2]$/.test(one.textContent))
  .map((one) => [one.textContent, +one.getAttribute("y")]))"""
ARROWS = """() => [...document.querySelectorAll("#timeline-plot .arrow")].map((one) => ({
  title: one.textContent,
  ...Object.fromEntries(["x1", "x2", "y1", "y2"].map((k) => [k, +one.getAttribute(k)])) }))"""
CELLS = """(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"""


def wait_for_rows(page: "Page", count: int) -> None:
    expect(page.locator(SHOWN)).to_have_count(count)


def chooser(page: "Page", part: str, name: str) -> "Locator":
    """A select by its label."""
    return page.locator(f"xpath=//*[@id='{part}']//label[text()='{name}']/select")


def cells(page: "Page", selector: str) -> list[list[str]]:
    found: list[list[str]] = page.locator(selector).evaluate_all(CELLS)
    return found


def test_choices_and_words_choose_together_and_all_come_back(page: "Page") -> None:
    """More rows than are shown at once come too, in the order in which they were."""
    wait_for_rows(page, ALL)
    before = cells(page, SHOWN)
    chooser(page, "record-controls", "system").select_option("puma")
    page.locator("#record-controls input").fill("PUMA status:ok")  # a network's name, too
    rows = cells(page, SHOWN)
    heads = page.locator("#records-table thead th").all_inner_texts()
    assert {row[heads.index("system")] for row in rows} == {"puma"}
    assert {row[heads.index("status")] for row in rows} <= {"ok", "ok*"}
    expect(page.locator("output")).to_have_text(f"{len(rows)} of {ALL} records")
    page.locator("#record-controls input").fill("no-such-word")
    expect(page.locator("output")).to_have_text(f"0 of {ALL} records")
    page.locator("thead button", has_text="hops").press("Enter")
    page.get_by_role("button", name="Show all", exact=True).press("Enter")
    wait_for_rows(page, ALL)
    assert cells(page, SHOWN) == before
    expect(page.locator("th[aria-sort]")).to_have_count(0)
    page.wait_for_function("() => !location.hash.includes('=')")


def test_an_address_brings_all_choices_back(
    browser: "Browser", page_folder: Path, page: "Page"
) -> None:
    """As typed by hand; what is made by choosing is the same text."""
    trace = page.locator("#timeline-controls option").nth(1).get_attribute("value")
    state = (
        "#q=layer&system=puma&columns=system,hops&rtt=50&rate=unlimited&P1=2&compute=wall"
        f"&level=roles&measure=bytes&trace={trace}&b={trace}"
    )
    with open_page(browser, page_folder / PAGE, state) as again:
        assert again.locator("#records-table thead th").all_inner_texts() == [
            "id",
            "system",
            "hops",
        ]
        assert {row[1] for row in cells(again, SHOWN)} == {"puma"}
        assert chooser(again, "record-controls", "system").input_value() == "puma"
        assert again.locator("#record-controls input").input_value() == "layer"
        assert again.get_by_label("hops", exact=True).first.is_checked()
        assert not again.get_by_label("online", exact=True).first.is_checked()
        values = [again.locator(f"#whatif-{name}").input_value() for name in ("rtt", "P1")]
        assert values == ["50", "2"]
        assert again.locator("#whatif-unlimited").is_checked()
        chosen = {
            ("whatif-controls", "The parties stand"): "wall",
            ("part-controls", "Parts"): "roles",
            ("part-controls", "Measure"): "bytes",
            ("timeline-controls", "Run"): trace,
            ("cross-controls", "B"): trace,
        }
        for (part, name), value in chosen.items():
            assert chooser(again, part, name).input_value() == value
        assert "50.0 ms, unlimited" in str(
            again.locator("#timeline-plot svg").get_attribute("aria-label")
        )


def test_a_heading_link_keeps_the_state(page: "Page") -> None:
    page.locator("#record-controls input").fill("puma")
    page.wait_for_function("() => location.hash === '#q=puma'")
    page.locator("nav a", has_text="What if").press("Enter")
    assert page.evaluate("document.activeElement.id") == "whatif"
    assert page.evaluate("location.hash") == "#q=puma"


def test_operators_have_bars_on_one_scale(page: "Page", page_folder: Path) -> None:
    (traced,) = (r for r in store.load_all(page_folder) if r.operators)
    chooser(page, "part-controls", "Run").select_option(traced.id)
    chooser(page, "part-controls", "Parts").select_option("operators")
    assert cells(page, "#part-bars tbody tr") == [
        ["layer/softmax, P0", "", "30.0 ms computing, 10.0 ms waiting"],
        ["layer/softmax, P1", "", "20.0 ms computing, 0 ns waiting"],
    ]
    widths = "(bars) => bars.map((bar) => [bar.className, parseFloat(bar.style.width)])"
    assert page.locator("#part-bars .track span").evaluate_all(widths) == [
        *(["", 75], ["wait", 25], ["", 50]),
    ]


def test_runs_stand_beside_those_of_the_same_work(page: "Page") -> None:
    """In the table of what-if, and where two are chosen."""
    wait_drawn(page)
    rows = page.locator("#whatif-table tbody tr")
    named = [row[0] for row in cells(page, "#whatif-table tbody tr")]
    ratios = [row[2] for row in cells(page, "#whatif-table tbody tr")]
    times = [float(row.get_attribute("data-ns") or 0) for row in rows.all()]
    assert [name.endswith("threads=2") for name in named] == [*[False] * 4, *[True] * 2]
    firsts = [*[times[0]] * 4, *[times[4]] * 2]
    assert ratios == [digits(time / first) for time, first in zip(times, firsts, strict=True)]
    ids = [str(row.get_attribute("data-id")) for row in rows.all()]
    assert chooser(page, "cross-controls", "B").input_value() == ids[1]
    chooser(page, "cross-controls", "A").select_option(ids[5])
    assert chooser(page, "cross-controls", "B").input_value() == ids[4]
    expect(page.locator("#cross-words")).to_contain_text(
        f"A: {named[5].strip()}; B: {named[4].strip()}"
    )


def test_an_arrow_goes_from_its_send_to_its_receipt(page: "Page") -> None:
    """Title, lanes and place of each as the table of messages says."""
    page.locator("#timeline-messages summary").press("Enter")
    page.locator("#timeline-messages tbody tr").first.wait_for()
    rows = cells(page, "#timeline-messages tbody tr")
    arrows: list[dict[str, Any]] = page.evaluate(ARROWS)
    lanes = page.evaluate(LANES)
    assert len(rows) == len(arrows) == 12
    assert [row[3] for row in rows[:3]] == [
        f"layer/part {n}" for n in ("0/ask", "0/answer", "1/ask")
    ]
    for (_, source, to, step, size, _, _), arrow in zip(rows, arrows, strict=True):
        assert arrow["title"].startswith(f"{source} to {to}: {step}, {size}, ")
        assert arrow["x1"] < arrow["x2"]
        assert abs(arrow["y1"] - lanes[source]) < abs(arrow["y1"] - lanes[to])
        assert abs(arrow["y2"] - lanes[to]) < abs(arrow["y2"] - lanes[source])
    # One waits for the other: each is sent after the last was there.
    assert all(one["x2"] <= after["x1"] + 0.1 for one, after in pairwise(arrows))


def test_the_timeline_zooms_and_moves_by_buttons(page: "Page") -> None:
    def shown() -> str:
        return str(page.locator("#timeline-plot svg").get_attribute("aria-label")).partition("; ")[
            2
        ]

    wait_drawn(page)
    whole = shown()
    assert whole.startswith("shown 0 ns to ")
    seen = [whole]
    for name in ("zoom in", "to the right", "to the left", "zoom out"):
        page.get_by_role("button", name=name, exact=True).press("Enter")
        seen.append(shown())
    assert seen[1] == seen[3] != seen[2]
    assert seen[4] == whole


def test_printed_are_all_rows_that_match(page: "Page") -> None:
    page.locator("#record-controls input").fill("status:ok")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    said = page.locator("output").inner_text()
    assert page.locator(SHOWN).count() == int(said.split()[0]) > 40


def test_a_choice_is_the_whole_cell(page: "Page") -> None:
    """Of "ok" and "ok*" one alone."""
    chooser(page, "record-controls", "status").select_option("ok")
    heads = page.locator("#records-table thead th").all_inner_texts()
    assert {row[heads.index("status")] for row in cells(page, SHOWN)} == {"ok"}


def test_dashes_stand_last_in_both_orders(page: "Page") -> None:
    at = page.locator("#records-table thead th").all_inner_texts().index("online")
    for _ in range(2):
        page.locator("thead button", has_text="online").first.press("Enter")
        wait_for_rows(page, ALL)
        found = [row[at] == "–" for row in cells(page, SHOWN)]
        assert True in found
        assert found == sorted(found)


def test_tab_reaches_the_first_row_that_is_shown(page: "Page") -> None:
    page.locator("#record-controls input").fill("system:puma status:ok")
    page.locator("thead button").last.focus()
    page.keyboard.press("Tab")
    first = cells(page, SHOWN)[0][0].split()[0]
    assert page.evaluate("document.activeElement.ariaLabel") == f"copy the command of {first}"


def test_marks_are_runs_measured_at_the_rate_chosen(page: "Page") -> None:
    for mbit, rtt in (("1000", "10"), ("100", "20")):
        page.locator("#whatif-rate").fill(mbit)
        page.wait_for_function(
            "(rtt) => { const told = [...document.querySelectorAll('#whatif-lines title')].map((one) =>"
            " one.textContent.split(' at ')[1]); return told.length && told.every((at) => at === rtt); }",
            arg=f"{rtt} ms",
        )


def test_letters_say_which_is_faster(page: "Page") -> None:
    """PermLLM is, as A and as B; words, and a text in each corner."""
    wait_drawn(page)
    ids = [row.get_attribute("data-id") for row in page.locator("#whatif-table tbody tr").all()]
    for letter, (a, b) in {"A": (ids[0], ids[3]), "B": (ids[3], ids[0])}.items():
        chooser(page, "cross-controls", "A").select_option(a)
        chooser(page, "cross-controls", "B").select_option(b)
        expect(page.locator("#cross-words")).to_contain_text(f"{letter} is faster everywhere here")
        faster = page.locator("#whatif-cross text", has_text="faster").all_text_contents()
        assert [text[0] for text in faster] == [letter] * 4


def test_a_network_without_delay_is_one(page: "Page") -> None:
    """And the messages are those of the network chosen, also while their table is open."""
    page.locator("#timeline-messages summary").press("Enter")
    expect(page.locator("#timeline-messages caption")).to_contain_text(", 10.0 ms, 1.00 Gbit/s")
    page.locator("#whatif-rtt").fill("0")
    expect(page.locator("#timeline-messages caption")).to_contain_text(", 0 ms, 1.00 Gbit/s")
    expect(page.locator("#timeline-plot svg")).to_have_attribute(
        "aria-label", re.compile(", 0 ms,")
    )


def test_the_timeline_ends_where_it_ends(page: "Page") -> None:
    """Both ways: moving stops there."""
    wait_drawn(page)
    drawn = page.locator("#timeline-plot svg")
    whole = str(drawn.get_attribute("aria-label")).rpartition("shown ")[2]
    page.locator("#timeline-plot").focus()
    for keys, end in (("+" + "→" * 9, 1), ("←" * 9, 0)):
        for key in keys:
            page.keyboard.press({"→": "ArrowRight", "←": "ArrowLeft"}.get(key, key))
        shown = str(drawn.get_attribute("aria-label")).rpartition("shown ")[2]
        assert shown != whole
        assert shown.split(" to ")[end] == whole.split(" to ")[end]


def test_a_page_without_traces_is_whole(browser: "Browser", tmp_path: Path) -> None:
    for record in many_records(3):
        store.save(tmp_path, record)
    report(tmp_path)
    with open_page(browser, tmp_path / PAGE) as page:
        wait_for_rows(page, 3)
        assert page.locator("#timeline, #whatif").count() == 0
