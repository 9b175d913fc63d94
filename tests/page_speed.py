"""What a page of 1,000 records and 20 traces costs: `python -m tests.page_speed [RECORDS [TRACES]]`.

Prints seconds and bytes of making it; and from Chromium, where there is one, how long a filter takes until
the table is laid out again with a screen of rows, and until all rows that match are there; and what a move of
a slider takes until all predictions are shown.
"""

import sys
import tempfile
import time
from pathlib import Path

from harness.cli.verb_report import PAGE, report
from harness.records import store
from tests.browser import chromium, open_page
from tests.many_records import many_records, store_traced

TIMES = 15
FILTER = """
async (words) => {
  const input = document.querySelector("#record-controls input[type=search]");
  const said = document.querySelector("output");
  const shown = () => document.querySelectorAll("#records-table tbody tr:not([hidden])").length;
  const first = [], all = [];
  for (const word of words) {
    input.value = word;
    const start = performance.now();
    input.dispatchEvent(new Event("input"));
    document.querySelector("#records-table").offsetHeight;
    first.push(performance.now() - start);
    while (shown() < parseInt(said.textContent)) await new Promise(requestAnimationFrame);
    all.push(performance.now() - start);
  }
  return [first, all];
}
"""
SLIDE = """
(count) => {
  const input = document.querySelector("#whatif-controls input[type=range]");
  const took = [];
  for (let i = 0; i < count; i++) {
    input.value = 300 + 40 * i;
    const start = performance.now();
    input.dispatchEvent(new Event("input"));
    document.querySelector("#whatif-table").offsetHeight;
    took.push(performance.now() - start);
  }
  return took;
}
"""


def main(records: int, traces: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for record in many_records(records):
            store.save(folder, record)
        store_traced(folder, traces)
        start, cpu = time.monotonic(), time.process_time()
        report(folder)
        took, cpu = time.monotonic() - start, time.process_time() - cpu
        size = (folder / PAGE).stat().st_size
        print(
            f"{records + traces} records, {traces} traces: {took:.1f} s ({cpu:.1f} s of processor "
            f"time), {size / 1e6:.2f} MB",
            flush=True,
        )
        with chromium() as browser, open_page(browser, folder / PAGE) as page:
            words = ["puma", "", "llama status:ok", "", "bolt", "x", ""] * 2
            first, whole = page.evaluate(FILTER, words)
            _print("filter", first)
            _print("filter, all rows", whole)
            _print("slider", page.evaluate(SLIDE, TIMES))


def _print(what: str, took: list[float]) -> None:
    print(f"{what}: median {sorted(took)[len(took) // 2]:.1f} ms, most {max(took):.1f} ms")


if __name__ == "__main__":
    main(*map(int, [*sys.argv[1:], *("1000", "20")[len(sys.argv) - 1 :]]))
