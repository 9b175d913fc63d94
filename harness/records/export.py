"""Rows of plain data as JSON, CSV or Parquet."""

import io
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("json", "csv", "parquet")


def encoded(rows: Sequence[dict[str, Any]], form: str) -> bytes:
    """`rows` in one of `FORMATS`; a key that a row lacks is empty there."""
    if form == "json":
        return (json.dumps(rows, indent=1) + "\n").encode()
    if not rows:
        print("no record", file=sys.stderr)
    table = _table(rows)
    if form == "csv":
        return table.to_csv(index=False).encode() if rows else b""
    file = io.BytesIO()
    table.to_parquet(file, index=False, engine="pyarrow")
    return file.getvalue()


def _table(rows: Sequence[dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd  # noqa: PLC0415 - slow to import

    # Whole numbers stay whole in a column where some rows have none.
    table = pd.DataFrame(rows).convert_dtypes()
    for name in table.select_dtypes(object).columns:
        if len({type(value) for value in table[name].dropna()}) > 1:
            table[name] = table[name].map(_as_text).astype("string")
    return table


def _as_text(value: Any) -> str | None:
    """A value of a column whose values have no type in common."""
    return value if value is None or isinstance(value, str) else json.dumps(value)
