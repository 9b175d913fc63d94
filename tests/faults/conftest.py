"""No program of a test outlives it, however the test ends."""

from collections.abc import Iterator

import pytest

from tests.faults.program import Program, left_of


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    Program.marks.clear()
    yield
    for mark in Program.marks:
        left_of(mark, 0.0)
