"""The page in Chromium: no request, no error, all by keyboard, and replay's numbers under the sliders."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cli.main import main
from harness.cli.verb_report import PAGE
from harness.records import store
from harness.report.page.run_command import run_command
from tests.browser import missing, open_page, wait_drawn
from tests.harness.report.conftest import RECORDS, TRACES

if missing() is None:
    from playwright.sync_api import expect
if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=f"the page in a browser: {missing()}"),
]
MOST_TABS = 60
ROWS = "#records-table tbody tr"
SHOWN = f"{ROWS}:not([hidden])"
TOPS = """() => [document.activeElement.getBoundingClientRect().top,
  document.querySelector("#records-table thead").getBoundingClientRect().bottom]"""
SERIOUS = ("serious", "critical")


def tab_to(page: "Page", selector: str) -> None:
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("(s) => document.activeElement.matches(s)", selector):
            return
    pytest.fail(f"{selector} is not reached by {MOST_TABS} times Tab")


def column(page: "Page", head: str) -> list[str]:
    """The texts of one column, of the rows that are shown."""
    texts: list[str] = page.evaluate(
        """(head) => {
          const table = document.querySelector("#records-table"), body = table.tBodies[0];
          const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === head);
          return [...body.rows].filter((row) => !row.hidden).map((row) => row.cells[at].textContent);
        }""",
        head,
    )
    return texts


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_request_and_no_error(
    browser: "Browser", page_folder: Path, scripts: bool, scheme: str
) -> None:
    with open_page(
        browser, page_folder / PAGE, color_scheme=scheme, java_script_enabled=scripts
    ) as page:
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url))
        page.reload()
        if scripts:
            wait_drawn(page)
        page.wait_for_load_state("networkidle")
    assert [text for text in said if not text.startswith(("data:", "file:"))] == []
    assert len([text for text in said if text.startswith("file:")]) == 1


def test_the_policy_stops_what_is_not_the_pages_own(page: "Page") -> None:
    """A script or an image that somebody slips in does nothing."""
    page.evaluate(
        """() => {
          document.body.insertAdjacentHTML("beforeend", "<b id=there onclick='window.slipped=1'>x</b>");
          const script = document.createElement("script");
          script.textContent = "window.slipped = 1";
          document.body.append(script);
        }"""
    )
    page.evaluate("document.getElementById('there').click()")
    assert page.evaluate("window.slipped") is None


def test_filter_and_sort_by_keyboard_and_keep_them(
    page: "Page", browser: "Browser", page_folder: Path
) -> None:
    tab_to(page, "#record-controls input[type=search]")
    page.keyboard.type("system:puma layer status:ok")
    systems = column(page, "system")
    assert 0 < len(systems) < RECORDS
    assert set(systems) == {"puma"}
    page.locator(".scroll").focus()
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "hops":
            break
    page.keyboard.press("Enter")
    rising = [int(hops) for hops in column(page, "hops")]
    page.keyboard.press("Enter")
    falling = [int(hops) for hops in column(page, "hops")]
    assert rising == sorted(rising) == falling[::-1]
    assert len(set(rising)) > 2
    expect(page.locator("th[aria-sort=descending]")).to_have_text("hops")
    page.wait_for_url(re.compile("sort=-hops"))
    state = page.evaluate("location.hash")
    with open_page(browser, page_folder / PAGE, state) as again:
        expect(again.locator(SHOWN)).to_have_count(len(falling))
        assert [int(hops) for hops in column(again, "hops")] == falling


def test_numbers_are_sorted_by_size_and_dashes_stand_last(page: "Page") -> None:
    page.locator("thead button", has_text="online").first.press("Enter")
    expect(page.locator(SHOWN)).to_have_count(RECORDS + TRACES)
    texts = column(page, "online")
    pairs = [text.split()[:2] for text in texts if text != "–"]
    assert {unit for _, unit in pairs} == {"µs", "ms", "s"}
    known = [float(number) * {"µs": 1e-3, "ms": 1, "s": 1e3}[unit] for number, unit in pairs]
    assert known == sorted(known)
    assert set(texts[len(known) :]) == {"–"}


def test_columns_are_chosen(page: "Page") -> None:
    commit = page.locator("thead th", has_text="commit")
    page.locator("#columns summary").press("Enter")
    expect(commit).to_be_hidden()
    page.get_by_label("commit", exact=True).press(" ")
    expect(commit).to_be_visible()
    page.wait_for_url(re.compile("commit"))


def test_a_rows_command_is_copied(browser: "Browser", page_folder: Path) -> None:
    allowed = ["clipboard-read", "clipboard-write"]
    with open_page(browser, page_folder / PAGE, permissions=allowed) as page:
        page.locator("#record-controls input").fill("system:puma threads:1 bolt")
        row = page.locator(SHOWN).nth(2)
        row.locator("button").press("Enter")
        page.locator("output", has_text="copied: permbench run").wait_for()
        text = page.evaluate("navigator.clipboard.readText()")
        name = row.locator("button").inner_text()
        begin = row.locator("th").inner_text().removesuffix(name).strip()
    (record,) = (r for r in store.load_all(page_folder) if r.id.startswith(begin))
    assert text == run_command(record)


def test_tab_passes_the_table_and_arrows_go_through_it(page: "Page") -> None:
    """A thousand rows are one stop, which is visible, and not under the headings."""
    expect(page.locator(SHOWN)).to_have_count(RECORDS + TRACES)
    page.locator("thead button").last.focus()
    page.keyboard.press("Tab")
    names = [page.evaluate("document.activeElement.ariaLabel")]
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "End"):
        page.keyboard.press(key)
        names.append(page.evaluate("document.activeElement.ariaLabel"))
    ids = [f"copy the command of {cell.split()[0]}" for cell in column(page, "id")]
    assert names == [ids[0], ids[1], ids[2], ids[1], ids[-1]]
    for _ in range(30):
        page.keyboard.press("ArrowUp")
    top, below = page.evaluate(TOPS)
    assert top >= below
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#records-table') === null")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.ariaLabel") == ids[-31]


def test_a_print_has_all_that_the_filter_found(page: "Page") -> None:
    """On the screen rows come a frame at a time; a print takes what is there."""
    expect(page.locator(SHOWN)).to_have_count(RECORDS + TRACES)
    on_screen, printed = page.evaluate(
        "(shown) => { const count = () => document.querySelectorAll(shown).length;"
        "document.querySelector('input[type=search]').dispatchEvent(new Event('input'));"
        "const before = count(); dispatchEvent(new Event('beforeprint')); return [before, count()]; }",
        SHOWN,
    )
    assert on_screen < printed == RECORDS + TRACES


@pytest.mark.parametrize("compute", ["cpu", "wall"])
def test_sliders_give_the_numbers_of_replay(
    page: "Page", page_folder: Path, capsys: pytest.CaptureFixture[str], compute: str
) -> None:
    if compute == "wall":
        page.get_by_label("The parties stand").select_option("wall")
    page.locator("#whatif").focus()
    tab_to(page, "#whatif-rtt")
    page.keyboard.press("Control+a")
    page.keyboard.type("37.5")
    page.locator("#whatif-controls input[type=range]").nth(1).press("ArrowRight")
    rate = page.locator("#whatif-rate").input_value()
    assert rate != "1000"
    shown = page.evaluate(
        "() => Object.fromEntries([...document.querySelectorAll('#whatif-table tr[data-id]')]"
        ".map((row) => [row.dataset.id, Number(row.dataset.ns)]))"
    )
    capsys.readouterr()
    asked = [f"results_dir={page_folder}", "rtt_ms=37.5", f"rate_mbit={rate}", f"compute={compute}"]
    assert main(["replay", *asked, "--format", "json"]) == 0
    told = {row["id"]: row["online_ns"] for row in json.loads(capsys.readouterr().out)}
    assert len(told) == TRACES
    assert shown == pytest.approx(told, rel=0.01)


def test_the_timeline_is_moved_by_keys(page: "Page") -> None:
    drawn = page.locator("#timeline-plot svg")
    wait_drawn(page)
    before = drawn.get_attribute("aria-label") or ""
    page.locator("#timeline").focus()
    tab_to(page, "#timeline-plot")
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "timeline-plot"
    expect(drawn).not_to_have_attribute("aria-label", before)
    page.keyboard.press("0")
    expect(drawn).to_have_attribute("aria-label", before)
    page.locator("#timeline-messages summary").press("Enter")
    expect(page.locator("#timeline-messages tbody tr")).to_have_count(12)


def test_without_scripts_all_records_are_there(browser: "Browser", page_folder: Path) -> None:
    with open_page(browser, page_folder / PAGE, java_script_enabled=False) as page:
        rows, commit = page.locator(ROWS), page.locator("thead th", has_text="commit")
        expect(rows).to_have_count(RECORDS + TRACES)
        expect(rows.last).to_be_visible()
        expect(page.locator("figure svg").first).to_be_visible()
        expect(commit).to_be_hidden()
        page.locator("#columns summary").press("Enter")
        page.get_by_label("commit", exact=True).press(" ")
        expect(commit).to_be_visible()


def test_a_narrow_screen_scrolls_in_one_direction(browser: "Browser", page_folder: Path) -> None:
    with open_page(browser, page_folder / PAGE, viewport={"width": 375, "height": 700}) as page:
        wait_drawn(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 375


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: "Browser", page_folder: Path, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - of the extra

    # axe comes from outside; the policy is left aside for it.
    with open_page(browser, page_folder / PAGE, color_scheme=scheme, bypass_csp=True) as page:
        wait_drawn(page)
        for summary in page.locator("summary").all():
            summary.press("Enter")
        page.locator("#timeline-messages tbody tr").first.wait_for()
        found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in SERIOUS]
    assert not [(one["id"], one["nodes"][0]["html"], len(one["nodes"])) for one in serious]
