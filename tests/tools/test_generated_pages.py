"""What pages take from records and files is as it would be made now, and splicing keeps the rest."""

import pytest

from tools.generated_pages import END, ROOT, pages, spliced

MARKER = "<!-- table: results/reference/headline model=chatglm-6b system=permllm,puma -->"


def test_generated_pages_are_up_to_date() -> None:
    """Otherwise: make readme."""
    made = pages()
    assert ROOT / "ARTIFACT.md" in made
    assert len(made) > 1
    assert not [
        path.name for path, text in made.items() if path.read_text(encoding="utf-8") != text
    ]


def test_a_table_is_made_anew_between_its_markers() -> None:
    page = f"before\n\n{MARKER}\nold\n{END}\n\nafter\n"
    made = spliced(page)
    lines = made.splitlines()
    assert (lines[0], lines[-1], lines[2]) == ("before", "after", MARKER)
    assert "old" not in made
    assert (
        lines[4] == "| system | online | offline | sum | × online | × sum | bytes online | hops |"
    )
    assert [line.split(" | ")[0] for line in lines[6:8]] == ["| PermLLM", "| Puma"]
    assert [line.split(" | ")[4] for line in lines[6:8]] == ["1", "11.2"]
    assert spliced(made) == made
    assert spliced("no marker\n") == "no marker\n"
    with pytest.raises(ValueError, match="after <!-- table"):
        spliced(f"{MARKER}\nold\n")
