"""`python -m tools.generated_pages`: what pages take from records and files, written into them.

A table stands between `<!-- table: FOLDER [KEY=VALUE …] -->` and `<!-- table: end -->`: systems side by
side, from the records of FOLDER that pass the filters, which are those of `permbench show`. With
`peers:` in place of `table:` it has our systems beside the originals that they follow. ARTIFACT.md is made
whole from conf/reproduce. A test holds that running this changes nothing.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from harness.cli.verb_show import chosen
from harness.report.headline_table import headline_tables
from harness.report.peer_table import peer_table
from harness.report.text_table import markdown_rows
from harness.reproduce.artifact import PAGE, artifact_page
from harness.reproduce.claims import load_paper

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = re.compile(r"<!-- (table|peers): (?!end)(.+?) -->"), "<!-- table: end -->"


def pages() -> dict[Path, str]:
    """Every page that has something generated, as it should be."""
    found = {ROOT / PAGE: artifact_page(load_paper("paper"))}
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))):
        if path.name != PAGE and BEGIN.search(text := path.read_text(encoding="utf-8")):
            found[path] = spliced(text)
    return found


def spliced(text: str) -> str:
    """`text` with every table made anew. Raises ValueError for a marker without its end."""
    lines = iter(text.splitlines(keepends=True))
    return "".join(_lines(lines))


def _lines(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        marker = BEGIN.fullmatch(line.strip())
        if marker:
            if not any(rest.strip() == END for rest in lines):
                raise ValueError(f"no {END} after {line.strip()}")
            yield from ("\n", *table(marker[1], marker[2]), "\n", f"{END}\n")


def table(kind: str, argument: str) -> Iterator[str]:
    """The lines of one table."""
    folder, *filters = argument.split()
    records = chosen(ROOT / folder, filters)
    for found in [peer_table(records)] if kind == "peers" else headline_tables(records):
        yield from (f"{line}\n" for line in markdown_rows(found))


def main() -> None:
    """Write what has changed, and say what."""
    for path, text in pages().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
