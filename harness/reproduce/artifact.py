"""ARTIFACT.md, made from a file of claims: what a reviewer of the artifact runs, how long it takes, and what
must come of it."""

import textwrap
from collections.abc import Iterator, Sequence

from harness.report.text_table import TextTable, markdown_text
from harness.reproduce.claim_runs import ClaimRuns
from harness.reproduce.claims import Claim, Paper
from harness.reproduce.outcomes import NEAR, command_of, expected_text

PAGE = "ARTIFACT.md"
COLUMNS = 100
HEAD = """\
# Artifact

<!-- Made by `make readme` from conf/reproduce/{name}.yaml; edit that. -->

{source}

permbench runs PermLLM, MPCFormer and Puma on the same machine, over the same emulated network, and
checks every answer. It needs Linux, Python 3.11 to 3.13 with venv, make and git; no GPU, no root,
no Docker. Two cores are enough. The first installation downloads packages (1.6 GB of disk).

## Kick the tires: 5 minutes

```bash
make demo
```

installs into `.venv` and runs `permbench reproduce --quick`: three systems at argmax and a layer.
It ends with a table of claims, tables of the systems side by side, and the path of the figures. All
results are in `results/runs`. On a busy machine a link may be marked `*`.

## All claims: {hours}

```bash
export PATH=$PWD/.venv/bin:$PATH
permbench reproduce --dry-run     # what each claim takes, and what is left to run
permbench reproduce
```

The last line may be stopped at any time: the same line goes on where it was stopped. One session of
parties serves all runs. A claim that this machine has too little memory or disk for ends as *not
run*, with the reason.

{measured}

The outcome of a claim is

- *held*: our number is within the claim's tolerance,
- *near*: within {near:g} times that,
- *off*: further away, with the run that misses most,
- *not comparable*: our number and the paper's are of different things, with the reason,
- *not run*: with the reason.

Times and memory below are those of one claim alone on two cores; claims share runs. Bytes and hops
must be equal on every machine. Times are of this machine, where the parties share cores.

## Claims
"""


def left_table(paper: Paper, runs: Sequence[ClaimRuns]) -> TextTable:
    """What each claim takes, and how many of its runs are still to be made."""
    return TextTable(
        title=f"{paper.title}: {len(runs)} claims",
        heads=("claim", "minutes", "memory", "disk", "runs", "left", "here"),
        right=(False, True, True, True, True, True, False),
        rows=tuple(
            (
                *(each.claim.id, f"{each.claim.minutes:g}", f"{each.claim.memory_gb:g} GB"),
                *(f"{each.claim.disk_mb:g} MB", str(len(each.configs)), str(each.pending)),
                each.missing or _here(each),
            )
            for each in runs
        ),
    )


def _here(runs: ClaimRuns) -> str:
    if runs.claim.declared:
        return "computed: declared costs"
    return "can be run" if runs.pending else "stored"


def artifact_page(paper: Paper) -> str:
    """The page, as text."""
    head = HEAD.format(
        name=paper.name, source=_wrapped(f"For {paper.source}."), near=NEAR,
        hours=f"about {total_minutes(paper):.0f} minutes", measured=_wrapped(paper.measured),
    )  # fmt: skip
    return "\n".join([head, *(line for claim in paper.claims for line in _claim(claim, paper))])


def total_minutes(paper: Paper) -> float:
    """Of all claims, where those that share their runs count once."""
    alone = {claim.runs: claim.minutes for claim in paper.claims}
    return sum(alone.values())


def _claim(claim: Claim, paper: Paper) -> Iterator[str]:
    yield from (f"### {claim.id}", "", _wrapped(claim.statement), "")
    yield _item(f"the paper: {claim.said}; {claim.place}")
    yield _item(f"expected here: {expected_text(claim)}{_of_what(claim)}")
    needs = f"{claim.memory_gb:g} GB of memory, {claim.disk_mb:g} MB of disk"
    yield _item(f"takes {claim.minutes:g} min, {needs}")
    if claim.not_comparable:
        yield _item(f"not comparable: {claim.not_comparable}")
    if claim.note:
        yield _item(f"to know: {claim.note}")
    yield from ("", "```bash", command_of(claim, paper), "```", "")
    yield from (
        "which takes the declared costs of" if claim.declared else "which runs",
        "",
        "```bash",
    )
    for call in paper.calls(claim, quick=False):
        yield _command(["permbench", "run", "-m", *call])
    yield from ("```", "")


def _of_what(claim: Claim) -> str:
    """What is compared with what."""
    value = f"{claim.value}{' of a token' if claim.a_token else ''}"
    if not claim.against:
        return f" ({value}, {claim.layers} times)" if claim.layers > 1 else f" ({value})"
    return f" ({value} with {' '.join(claim.against)}, divided by that with {' '.join(claim.of)})"


def _command(words: Sequence[str]) -> str:
    """A command line, its lists quoted, over as many lines as it takes."""
    quoted = " ".join(f"'{word}'" if "[" in word else word for word in words)
    lines = textwrap.wrap(
        quoted, COLUMNS - 2, subsequent_indent="    ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    return " \\\n".join(lines)


def _item(text: str) -> str:
    return _wrapped(text, "- ", "  ")


def _wrapped(text: str, first: str = "", others: str = "") -> str:
    return textwrap.fill(
        markdown_text(text), COLUMNS, initial_indent=first, subsequent_indent=others,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
