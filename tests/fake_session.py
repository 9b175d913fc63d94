"""A session that measures nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

from harness.config.config_hash import config_hash, resolved
from harness.config.schema import RunConfig
from harness.progress import Progress
from harness.records.record import Record, Status

MakeRecord = Callable[..., Record]
Statuses = Callable[[RunConfig], Status]


class FakeSession:
    """Answers with plausible records; `configs` are those it was asked to run, `together` the
    systems of those in turns."""

    def __init__(self, make_record: MakeRecord) -> None:
        self.make_record = make_record
        self.configs: list[RunConfig] = []
        self.together: list[list[str]] = []
        self.status: Statuses = lambda config: "ok"
        self.interrupt_at: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, config: RunConfig, progress: Progress) -> Record:
        self.configs.append(config)
        progress.stage("measuring 1/10")
        record = self.make_record(status=self.status(config))
        record = replace(record, id=config_hash(config), config=resolved(config))
        if len(self.configs) == self.interrupt_at:
            interrupt = KeyboardInterrupt()
            interrupt.record = replace(record, status="failed")  # type: ignore[attr-defined]
            raise interrupt
        return record

    def run_in_turns(self, configs: Sequence[RunConfig], progress: Progress) -> list[Record]:
        self.together.append([config.system.name for config in configs])
        return [self.run(config, progress) for config in configs]

    def sizes(self) -> list[object]:
        return [resolved(config)["experiment"].get("n") for config in self.configs]
