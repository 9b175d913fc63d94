"""Predictions held against measurements over the emulated link.

The traced run is made once more, and every network is measured in the same job, in turns with it: what
the machine does meanwhile disturbs both sides of the comparison alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from rich.table import Table

from harness import rows
from harness.config.errors import ConfigError
from harness.config.network import NetworkConfig
from harness.config.restore import restored
from harness.config.schema import RunConfig, ShaperConfig
from harness.config.validate import validate as check_config
from harness.record import Record
from harness.replay.networks import Networks
from harness.replay.predict import Prediction, Subject, predict
from harness.replay.readings import Compute
from harness.replay.subjects import trace_of
from harness.stats import format_ns, format_rate
from protocols.workload import steps

# Round-trip time in ms, rate in Mbit/s.
POINTS = ((0.5, 10_000), (1, 5_000), (4, 400), (10, 1_000), (20, 100), (80, 100))


@dataclass(frozen=True)
class Compared:
    """One prediction beside the median of its measurement, in ns."""

    prediction: Prediction
    network: NetworkConfig
    predicted_ns: float
    record: Record

    @property
    def measured_ns(self) -> float | None:
        """Median online time; None where the run failed."""
        times = rows.phase_spread(self.record, "online")
        return None if times is None or self.record.status != "ok" else times.median

    @property
    def error(self) -> float | None:
        """predicted / measured − 1."""
        return None if self.measured_ns is None else self.predicted_ns / self.measured_ns - 1


def points() -> Networks:
    """Six networks from a fast data centre to a slow, far link; the dealer's are unshaped."""
    return Networks(
        tuple(
            NetworkConfig(f"validation-{number}", "a point of replay --validate", rtt, rate)
            for number, (rtt, rate) in enumerate(POINTS, start=1)
        )
    )


def configs_of(subject: Subject, networks: Networks) -> list[RunConfig]:
    """The subject's own run, then the same untraced on each network with the emulated link. Raises
    ConfigError, also where there is nothing to take turns with."""
    traced = restored(subject.record.config)
    if traced.shaper.name != "none" or len(steps(traced.workload())) > 1:
        raise ConfigError(subject.record.id, "--validate takes runs of one step with shaper=none")
    results_dir = str(subject.results_dir)
    shaped = replace(traced, shaper=ShaperConfig("emulated"), trace=False)
    points = [replace(shaped, network=network) for network in networks.configs]
    return [check_config(replace(config, results_dir=results_dir)) for config in (traced, *points)]


def held(
    subject: Subject, records: Sequence[Record], networks: Networks, compute: Compute, scale: float
) -> list[Compared]:
    """What the new trace of `subject` predicts beside the `records` of the networks, which follow its
    own; nothing where its own run failed."""
    own, *measured = records
    if own.status != "ok":
        return []
    again = replace(subject, record=own, trace=trace_of(subject.results_dir, own))
    return compare(predict(again, networks.configs, compute, scale), networks, measured)


def compare(
    prediction: Prediction, networks: Networks, records: Sequence[Record]
) -> list[Compared]:
    """A prediction with the record of each network."""
    return [
        Compared(prediction, network, float(predicted_ns), record)
        for network, predicted_ns, record in zip(
            networks.configs, prediction.online_ns, records, strict=True
        )
    ]


def table_of(compared: Sequence[Compared]) -> Table:
    """One row for each network."""
    table = Table(box=None, padding=(0, 1))
    heads = ("run", "RTT", "rate", "predicted", "measured", "error")
    for head in heads:
        table.add_column(head, justify="left" if head == "run" else "right", no_wrap=True)
    for one in compared:
        network = one.network
        rate = format_rate(None if network.rate_mbit is None else network.rate_mbit * 1e6)
        measured = one.record.status if one.measured_ns is None else format_ns(one.measured_ns)
        error = "–" if one.error is None else f"{100 * one.error:+.1f} %"
        times = (format_ns(one.predicted_ns), measured, error)
        table.add_row(one.prediction.subject.label, f"{network.rtt_ms:g} ms", rate, *times)
    return table


def summary(compared: Sequence[Compared]) -> str:
    """Median and worst error."""
    errors = [abs(one.error) for one in compared if one.error is not None]
    if not errors:
        return "nothing could be measured"
    count = f"{len(errors)} of {len(compared)} points"
    return f"error: median {100 * median(errors):.1f} %, worst {100 * max(errors):.1f} % ({count})"
