"""`permbench timeline`: one evaluation of a traced run as a file for a trace viewer."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.verb_replay import ReplayArguments, split_arguments
from harness.errors import ConfigError, rejected
from harness.records import store

if TYPE_CHECKING:
    from harness.config.network import NetworkConfig
    from harness.replay.predict import TracedRun
    from harness.replay.timeline import Timeline

FOLDER = "traces/timelines"  # of results_dir, too deep to be taken for a folder of records
HELP = """\
keys:
  network.rate_mbit=…    of the network to predict for, as of run
  compute=cpu            of a prediction: parties on machines of their own; wall: this machine, as it was
  compute_scale=1        2: machines half as fast
  results_dir=DIR        where records and traces are

examples:
  permbench run experiment=layer model=gpt2 experiment.q_len=1 shaper=none trace=true
  permbench timeline 3f9c                                  as it was, on this machine
  permbench timeline 3f9c --network permllm-wan2           as replay predicts it
  permbench timeline 77c0 --step 3 --output third.json     the third token of a generation

Open the file in Perfetto (ui.perfetto.dev) or in chrome://tracing. Nothing leaves this machine: both
read it in the browser.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, where to, and on which network."""
    parser.description = (
        "Write one online evaluation of a traced run (trace=true), the one whose time is in the middle, "
        "as Chrome trace-event JSON: what each role computed, sent and waited for, by protocol step, with "
        "an arrow for each message and the bytes in flight."
    )
    parser.epilog = HELP
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="RECORD|KEY=VALUE",
        help="a record's file or the beginning of its id",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        help=f"the file to write, whole or not at all; default: in <results_dir>/{FOLDER}",
    )
    parser.add_argument(
        "--network", metavar="NAME", help="predict the evaluation on this network, as replay does"
    )
    parser.add_argument(
        "--step", type=int, metavar="N", help="of a generation: its N-th token; default: the last"
    )


def run(args: argparse.Namespace) -> int:
    """Write the file, and say where it is."""
    from harness.replay.timeline import measured, predicted  # noqa: PLC0415 - numpy is slow to import
    from harness.replay.traced_runs import find_traced_runs  # noqa: PLC0415

    arguments = _checked(split_arguments(args.arguments), args.network)
    network = _network(arguments, args.network)
    compute, scale = arguments.compute(), arguments.scale()
    (traced_run,) = find_traced_runs(arguments.records, (), arguments.results_dir)
    number = _step(traced_run, args.step)
    if network is None:
        timeline = measured(traced_run.trace, number)
    else:
        timeline = predicted(traced_run.trace, number, network, compute, scale)
    path = _path(args, arguments, traced_run, number)
    about = _about(traced_run, number, args.network)
    _write(path, timeline, about)
    print(f"{path}: {about['what']}; open it in Perfetto (ui.perfetto.dev)")
    return 0


def _checked(arguments: ReplayArguments, network: str | None) -> ReplayArguments:
    """Raises ConfigError for what chooses no single run, or is of no use."""
    if len(arguments.records) != 1:
        raise ConfigError("timeline", "needs one RECORD: its file, or the beginning of its id")
    for argument in arguments.filters:
        raise ConfigError(argument, "timeline takes one RECORD and no filters; see --help")
    for key in ("network", "rtt_ms", "rate_mbit"):
        if key in arguments.own:
            raise ConfigError(key, "write --network NAME, and network.key=value for what differs")
    if network is None and (arguments.network_overrides or arguments.own):
        given = [*arguments.network_overrides, *arguments.own]
        raise ConfigError(given[0], "is of a predicted timeline: give --network NAME too")
    return arguments


def _network(arguments: ReplayArguments, name: str | None) -> "NetworkConfig | None":
    """What to predict for. Raises ConfigError."""
    if name is None:
        return None
    from harness.replay.networks import check_predictable, named  # noqa: PLC0415 - Hydra is slow

    (config,) = check_predictable(named([name], arguments.network_overrides)).configs
    return config


def _step(traced_run: "TracedRun", given: int | None) -> int:
    """The place of the step. Raises ConfigError."""
    count = len(traced_run.trace.steps)
    if given is not None and not 1 <= given <= count:
        raise rejected("--step", str(given), f"1 to {count}, the steps of {traced_run.label}")
    return count - 1 if given is None else given - 1


def _path(
    args: argparse.Namespace, arguments: ReplayArguments, traced_run: "TracedRun", number: int
) -> Path:
    if args.output is not None:
        return Path(args.output)
    several = len(traced_run.trace.steps) > 1
    parts = [traced_run.record.id, *([f"step{number + 1}"] * several), args.network or ""]
    return arguments.results_dir / FOLDER / f"{'-'.join(filter(None, parts))}.json"


def _about(traced_run: "TracedRun", number: int, network: str | None) -> dict[str, Any]:
    """What the file says of itself."""
    count = len(traced_run.trace.steps)
    step = f", step {number + 1} of {count}" if count > 1 else ""
    how = f"predicted on {network}" if network else "as measured"
    return {
        "what": f"{traced_run.label}{step}, {how}",
        "record": traced_run.record.id,
        "network": network or traced_run.record.config["network"]["name"],
        "predicted": network is not None,
    }


def _write(path: Path, timeline: "Timeline", about: dict[str, Any]) -> None:
    """Raises ConfigError."""
    from harness.replay.timeline_events import chrome_trace  # noqa: PLC0415

    text = json.dumps(chrome_trace(timeline, about), ensure_ascii=False, separators=(",", ":"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        store.write_whole(path, f"{text}\n".encode())
    except OSError as error:
        raise ConfigError("--output", f"{path}: {error.strerror}") from None
