"""NEXUS's split of an inference (NDSS 2025, Table IV) in bootstrappings that were measured here.

How many bootstrappings NEXUS makes is not among the published numbers we have. So its seconds are told in
ones of ours: its bootstrapping takes B = 534 s of 857 s a sentence, all else R = 323 s, of which the table's
other parts name 315; with t seconds each,

    B / t  bootstrappings take as long as all of NEXUS's, and  n·t / (n·t + R)  is the share of n of them.
"""

from harness.records import query as rows
from harness.records.published import load_published
from harness.records.record import Record
from harness.records.stats import digits, format_ns

EXPERIMENT = "bootstrapping"
SECURE_LOG_N = 16
SYSTEM, WORKLOAD = "NEXUS", "BERT-base, 128 tokens, batch 32 amortised, CPU: "


def split() -> dict[str, float]:
    """Seconds of each part for one sentence, and `total`, as published."""
    return {
        row.workload.removeprefix(WORKLOAD): row.number
        for row in load_published()
        if row.system == SYSTEM and row.workload.startswith(WORKLOAD) and row.number
    }


def nexus_note(record: Record) -> str | None:
    """A sentence beside a bootstrapping that was measured with secure parameters; None of any other
    record."""
    times = rows.phase_spread(record, "online")
    if rows.experiment(record) != EXPERIMENT or record.status != "ok" or not times:
        return None
    if record.config["experiment"]["log_n"] < SECURE_LOG_N:
        return "a ring below 2^16 is not secure: its time is that of a test"
    parts = split()
    bootstrapping, whole = parts["bootstrapping"], parts["total"]
    seconds = times.median / 1e9
    return (
        f"NEXUS (NDSS 2025, Table IV, second hand): {bootstrapping:g} of {whole:g} s "
        f"({bootstrapping / whole:.1%}) of a BERT-base sentence are bootstrapping, as long as "
        f"{digits(bootstrapping / seconds)} of {format_ns(times.median)} each; all else is as long as "
        f"{digits((whole - bootstrapping) / seconds)}"
    )
