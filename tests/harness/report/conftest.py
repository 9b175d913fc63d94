"""A page of plausible records in a browser."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cli.verb_report import PAGE, report
from harness.records import store
from harness.records.record import OperatorRecord
from tests.browser import chromium, open_page
from tests.harness.conftest import build_phases
from tests.many_records import many_records, store_traced

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RECORDS, TRACES = 60, 6
MS = 1_000_000
OPERATORS = [
    OperatorRecord("P0", "layer/softmax", 30 * MS, 20 * MS, 10 * MS, 1, 4000, 1),
    OperatorRecord("P1", "layer/softmax", 20 * MS, 10 * MS, 0, 2, 80, 1),
]


@pytest.fixture(scope="session")
def page_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 records, the first with operators, the next with times of other units, and 6 traced ones, of
    which the last two have more threads; and their page."""
    made = tmp_path_factory.mktemp("page")
    first, second, third, *others = many_records(RECORDS)
    slow, quick = (build_phases([ns] * 10, 400_000, 12) for ns in (2_000 * MS, 900_000))
    odd = [replace(second, phases=slow), replace(third, phases=quick)]
    for record in (replace(first, operators=OPERATORS), *odd, *others):
        store.save(made, record)
    store_traced(made, TRACES)
    report(made)
    return made


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: "Browser", page_folder: Path) -> "Iterator[Page]":
    with open_page(browser, page_folder / PAGE) as opened:
        yield opened
