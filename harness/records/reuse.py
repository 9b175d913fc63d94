"""Whether a stored result counts, so that measuring it again would be waste."""

from harness.config.program_files import file_of
from harness.config.schema import RunConfig
from harness.records.code_digest import sources
from harness.records.record import Record
from harness.records.selection import commit_text, outside


def why_again(config: RunConfig, found: Record) -> str | None:
    """Why a stored result does not count for `config`; None where it does."""
    if found.environment.get("sources") != sources(config.system.name, file_of(config.system)):
        made = f"commit {commit_text(found)}, {str(found.environment.get('date'))[:10]}"
        return f"stored, but made by other code ({made})"
    if outside(found) and config.calibration.strict:
        return "stored, but over a link outside tolerance (calibration.strict=false)"
    return None
