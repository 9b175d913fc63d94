"""What TLS costs: `python -m tests.tls_overhead [KEY=VALUE …]`, with the keys of `permbench run`.

Two groups of parties, one with TLS and one without, evaluate in turns. Prints the ratios of the times of the
offline and of the online phase, and of the processor time that all three roles took in them.
"""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

from harness.config.compose import compose_run
from harness.measure.evaluation import ActiveJob, phase_records, texts
from harness.measure.run import Run, measure_links
from harness.parties.group import PartyGroup
from harness.progress import PlainProgress
from harness.records.ratio import paired
from harness.records.record import PhaseRecord
from harness.runners.local import Local

LAYER = ("experiment=layer", "model=chatglm-6b", "network=permllm-wan", "repeat=40")


@contextmanager
def started(run: Run) -> Iterator[ActiveJob]:
    """Its parties, prepared."""
    config, progress = run.config, PlainProgress()
    group = PartyGroup(Local(), config.threads, config.timeout_s, bool(config.transport.tls))
    with closing(group):
        group.start()
        measure_links(run, group, run.online_roles, progress)
        yield ActiveJob(group, run.job, progress)


def cpu_ns(phase: PhaseRecord) -> list[int]:
    """Of all roles, in each evaluation."""
    return [sum(role) for role in zip(*(part.cpu_ns for part in phase.roles.values()), strict=True)]


def main(words: list[str]) -> None:
    """Measure and print."""
    runs = [Run(compose_run([*LAYER, *words, f"transport.tls={on}"])) for on in ("false", "true")]
    config = runs[0].config
    with started(runs[0]) as plain, started(runs[1]) as safe:
        for number, text in enumerate(texts(config.repeat, config.warmup)):
            for job in (plain, safe)[:: 1 if number % 2 == 0 else -1]:
                job.evaluate(text)
        phases = [
            phase_records(job.finish(config.warmup), run.profiles, run.shaped_phases)
            for job, run in zip((plain, safe), runs, strict=True)
        ]
    for name in ("offline", "online"):
        old, new = (found[name] for found in phases)
        medians = [sorted(p.wall_ns)[len(p.wall_ns) // 2] / 1e6 for p in (old, new)]
        print(f"{name}: {medians[0]:.1f} ms, with TLS {medians[1]:.1f} ms")
        print(f"  time: {paired(old.wall_ns, new.wall_ns)}")
        print(f"  processor time: {paired(cpu_ns(old), cpu_ns(new))}")
        for role, part in new.roles.items():
            print(f"  {role} sends {part.sent}")


if __name__ == "__main__":
    main(sys.argv[1:])
