"""Chromium as Debian brings it, driven by playwright; for tests of the page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
READY = "html[data-ready]"
DRAWN = "#whatif-cross svg"  # what a page with traces draws last
WAIT_MS = 60_000  # a busy machine is slow to start a browser


def missing() -> str | None:
    """What these tests lack here; None: nothing."""
    if not any(map(shutil.which, NAMES)):
        return "Chromium is not installed (Debian: apt-get install chromium)"
    try:
        import axe_playwright_python  # noqa: F401, PLC0415 - of the extra
        import playwright  # noqa: F401, PLC0415
    except ImportError:
        return "the extra browser is not installed"
    return None


@contextmanager
def chromium() -> "Iterator[Browser]":
    """A browser, for as long as its pages are looked at."""
    from playwright.sync_api import expect, sync_playwright  # noqa: PLC0415 - of the extra

    expect.set_options(timeout=WAIT_MS)
    found = next(name for name in map(shutil.which, NAMES) if name)
    with sync_playwright() as driver:
        # Root has no sandbox; the page is our own.
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(browser: "Browser", path: Path, state: str = "", **options: Any) -> "Iterator[Page]":
    """A file in a window that remembers nothing, its scripts done. state: what stands behind #. options:
    of playwright's context."""
    context = browser.new_context(**options)
    try:
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(f"file://{path.absolute()}{state}")
        if options.get("java_script_enabled", True):
            page.wait_for_selector(READY, state="attached")
        yield page
    finally:
        context.close()


def wait_drawn(page: "Page") -> None:
    """Until a page with traces has drawn everything."""
    page.wait_for_selector(DRAWN, state="attached")
