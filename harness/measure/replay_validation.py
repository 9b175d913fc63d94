"""Predictions held against measurements over the emulated link.

The traced run is made once more, and every network is measured in the same job, in turns with it: what
the machine does meanwhile disturbs both sides of the comparison alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from rich.table import Table

from harness.config.config_hash import restored
from harness.config.network import NetworkConfig
from harness.config.schema import RunConfig, ShaperConfig
from harness.config.validate import validate as check_config
from harness.errors import ConfigError
from harness.records import query as rows
from harness.records.record import Record
from harness.records.stats import format_ns, format_rate
from harness.replay.networks import Networks
from harness.replay.operation_times import Compute
from harness.replay.predict import Prediction, TracedRun, predict
from harness.replay.traced_runs import trace_of
from protocols.workload import Generation

FOLDER = "validation"  # of a folder of results
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


def fits(traced_run: TracedRun) -> bool:
    """Whether its run can take turns: over unshaped links, and no whole model."""
    config = restored(traced_run.record.config)
    return config.shaper.name == "none" and not isinstance(config.workload(), Generation)


def chosen(traced_runs: Sequence[TracedRun], named: bool) -> list[TracedRun]:
    """Those that fit. Raises ConfigError where there is none, or one of those `named` does not."""
    unfit = [traced_run for traced_run in traced_runs if not fits(traced_run)]
    if unfit and (named or len(unfit) == len(traced_runs)):
        rule = "--validate takes runs with shaper=none, and no whole models"
        raise ConfigError(unfit[0].record.id, rule)
    return [traced_run for traced_run in traced_runs if fits(traced_run)]


def configs_of(traced_run: TracedRun, networks: Networks, results_dir: Path) -> list[RunConfig]:
    """The traced run's own run, then the same on each network with the emulated link; all are to be kept in
    `FOLDER` of results_dir, since runs in turns are not what they are alone. Raises ConfigError."""
    traced = replace(
        restored(traced_run.record.config), shape="online", results_dir=str(results_dir / FOLDER)
    )
    trace = traced_run.trace
    links = [n.profiles(trace.online_roles, trace.roles) for n in networks.configs]
    for number, network in enumerate(networks.configs):
        if links[number] in links[:number]:
            raise ConfigError("network", f"{network.name} is the same as another one")
    shaped = replace(traced, shaper=ShaperConfig("emulated"), trace=False)
    points = [replace(shaped, network=network) for network in networks.configs]
    return [check_config(config) for config in (traced, *points)]


def held(
    traced_run: TracedRun,
    records: Sequence[Record],
    networks: Networks,
    results_dir: Path,
    compute: Compute,
    scale: float,
) -> list[Compared]:
    """What the new trace of `traced_run` predicts beside the `records` of the networks, which follow its
    own; nothing where its own run failed. results_dir: where these are."""
    own, *measured = records
    if own.status != "ok":
        return []
    again = replace(traced_run, record=own, trace=trace_of(results_dir / FOLDER, own))
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
        table.add_row(one.prediction.traced_run.label, f"{network.rtt_ms:g} ms", rate, *times)
    return table


def summary(compared: Sequence[Compared]) -> str:
    """Median and worst error."""
    errors = [abs(one.error) for one in compared if one.error is not None]
    if not errors:
        return "nothing could be measured"
    count = f"{len(errors)} of {len(compared)} points"
    return f"error: median {100 * median(errors):.1f} %, worst {100 * max(errors):.1f} % ({count})"
