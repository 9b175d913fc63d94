"""Papers beside our numbers: what came of their claims, and what they published themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.records.published import load_published
from harness.records.record import Record
from harness.report.published_network import contradiction, family
from harness.report.published_tables import published_table
from harness.report.styles import name_of
from harness.report.text_table import TextTable

CLAIM_HEADS = ("claim", "the paper", "expected", "here", "outcome", "reason", "command")
CLAIM_KEYS = ("id", "said", "expected_text", "here", "outcome", "reason", "command")
CLAIMS = "What came of the claims; each command measures one again"


def claims_table(outcomes: Sequence[Mapping[str, Any]]) -> TextTable | None:
    """A row for each claim, as `permbench reproduce` left it beside the records."""
    if not outcomes:
        return None
    body = tuple(tuple(str(row.get(key) or "–") for key in CLAIM_KEYS) for row in outcomes)
    return TextTable(CLAIMS, CLAIM_HEADS, (False,) * len(CLAIM_HEADS), body)


def published_beside(records: Sequence[Record]) -> TextTable | None:
    """What is published of the systems of `records`, and every number that contradicts its own network,
    with the arithmetic as a note."""
    published = load_published()
    known = {name_of(record).partition(",")[0].lower() for record in records}
    chosen = [
        row
        for row in published
        if family(row.system).lower() in known or contradiction(row, published)
    ]
    return published_table(chosen, published, sources=False) if chosen else None
