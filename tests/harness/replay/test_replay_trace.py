"""Traces: what parties leave, what becomes of it on disk, and what it says of their own work."""

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.mpcformer.system import MPCFormer
from baselines.puma.system import Puma
from harness.errors import TraceError
from harness.measure.collect_trace import DELAYS_S, collect
from harness.measure.evaluation import Evaluation, JobResult
from harness.parties.trace_recorder import END, RECV, SEND, TraceRecorder
from harness.replay import trace_file as file
from harness.replay.compute_times import costs_of
from harness.replay.simulate import LATENCY, TIME, links_of, simulate
from harness.replay.trace import Trace
from netem.profile import LinkProfile
from protocols.in_process_party import MemoryParty, run_parties
from protocols.party import P0, P1, ROLES, Phase, Role
from protocols.permllm.system import PermLLM
from protocols.system import System
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Argmax, Generation, Layer, Nonlinear, Workload, steps
from tests.traces import EVALUATIONS, traced

PHASES: tuple[Phase, ...] = ("offline", "input", "online")
SPEC = TransformerSpec("small", "gpt2", 2, 32, 4, 96, 200, 64)
OLD = Path(__file__).parent / "old"
Heard = dict[Role, tuple[torch.Tensor, ...]]


@pytest.fixture(scope="module")
def layer() -> Trace:
    return traced(PermLLM, Layer(SPEC, 1, 4))[0]


@pytest.mark.parametrize(
    ("system", "workload"),
    [
        (PermLLM, Layer(SPEC, 2, 6)),
        (PermLLM, Generation(SPEC, 3, 3)),
        (MPCFormer, Argmax(70)),
        (Puma, Nonlinear("softmax", (2, 5))),
    ],
)
def test_without_compute_and_rate_a_run_takes_its_hops(
    system: type[System], workload: Workload
) -> None:
    """A trace has every message of every step in order: depth × delay, and all of it latency."""
    trace, hops = traced(system, workload)
    assert trace.evaluations == EVALUATIONS - 1
    assert len(trace.steps) == len(steps(workload))
    profiles = dict.fromkeys(permutations(ROLES, 2), LinkProfile(delay_s=0.004))
    costs = costs_of(trace, "wall", 0.0)
    total = np.sum(
        [simulate(*s, links_of([profiles])) for s in zip(trace.steps, costs, strict=True)], axis=0
    )
    assert total[TIME].tolist() == [[hops * 4e6]] * trace.evaluations
    assert total[LATENCY].tolist() == total[TIME].tolist()


def test_times_add_up_to_the_phase(layer: Trace) -> None:
    """Nothing of a phase is lost between its operations, and waits are in no CPU time."""
    (step,) = layer.steps
    for program in step.roles.values():
        times = program.times
        assert (times.before_wall >= 0).all()
        assert (times.before_wall + times.during_wall).sum(axis=1).min() > 0
        assert (times.during_wall[:, program.kind == END] == 0).all()
    ends = {
        role: p.begin_ns + (p.times.before_wall + p.times.during_wall).sum(axis=1)
        for role, p in step.roles.items()
    }
    assert (abs(ends["P0"] - ends["P1"]) < 1e9).all()


def test_a_tracer_keeps_whole_online_phases_alone() -> None:
    recorder = TraceRecorder()

    def talk(party: MemoryParty) -> None:
        peer: Role = "P1" if party.role == "P0" else "P0"
        online: Phase = "online"
        for phase in (PHASES[0], online, online):
            with party.phase(phase):
                party.exchange(peer, torch.zeros(3))
        if party.role == "P0":
            with pytest.raises(ZeroDivisionError), party.phase("online"):
                raise ZeroDivisionError

    run_parties({"P0": talk, "P1": talk}, listeners={"P0": [recorder]})
    begins, rows, _ = recorder.tensors(clock_ahead_ns=5)
    assert rows[:, :3].tolist() == [[SEND, 1, 12], [RECV, 1, 12], [END, -1, 0]] * 2
    assert begins[0] < begins[1]
    assert recorder.tensors(0)[0].tolist() == (begins + 5).tolist()


def test_evaluations_whose_messages_differ_are_refused() -> None:
    sent: Heard = {}
    for role, peer in ((P0, 1), (P1, 0)):
        kind = SEND if role == P0 else RECV
        rows = [[kind, peer, size, *[0] * 6] for size in (8, 9)]
        ends = [[END, -1, *[0] * 7]] * 2
        mixed = [row for pair in zip(rows, ends, strict=True) for row in pair]
        table = torch.tensor(list(b'[""]'), dtype=torch.uint8)
        sent[role] = (torch.zeros(2, dtype=torch.int64), torch.tensor(mixed), table)
    evaluations = [Evaluation(number, None, [{"online": 0}], []) for number in range(2)]
    result = JobResult(steps(Argmax(2)), 0, 0, evaluations, {}, sent)
    with pytest.raises(TraceError, match="messages of P0 differ between evaluations"):
        collect(result, "x", ROLES, shaped=False)
    for packed, problem in ((b"[]", "not in its table"), (b'["\\u001b"]', "not printable")):
        labels = torch.tensor(list(packed), dtype=torch.uint8)
        other = {role: (*tensors[:2], labels) for role, tensors in sent.items()}
        one = replace(result, traces=other, evaluations=evaluations[:1] * 2)
        with pytest.raises(TraceError, match=f"P0 sent a label that is {problem}"):
            collect(one, "x", ROLES, shaped=False)
    with pytest.raises(TraceError, match="P0 traced 2 online phases of 1"):
        collect(replace(result, evaluations=evaluations[:1]), "x", ROLES, shaped=False)


def test_a_trace_survives_the_disk(layer: Trace, tmp_path: Path) -> None:
    path = file.save(tmp_path, layer)
    assert path == tmp_path / "traces" / "0123456789abcdef.npz"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    again = file.load(tmp_path, layer.record_id)
    assert (again.online_roles, again.shaped) == (("P0", "P1"), False)
    assert (
        [w.delay_s for w in again.delayed] == [w.delay_s for w in layer.delayed] == [*DELAYS_S[:2]]
    )
    delayed = ([delayed_step.step for delayed_step in trace.delayed] for trace in (layer, again))
    both = zip([*layer.steps, *next(delayed)], [*again.steps, *next(delayed)], strict=True)
    for step, other in both:
        np.testing.assert_equal(other.start_ns, step.start_ns)
        for role, program in step.roles.items():
            assert other.roles[role].labels == program.labels
            for name, values in (vars(program) | vars(program.times)).items():
                if name not in ("times", "labels"):
                    found = vars(other.roles[role]) | vars(other.roles[role].times)
                    np.testing.assert_equal(found[name], values, name)


def test_steps_survive_the_disk_apart(tmp_path: Path) -> None:
    trace, _ = traced(PermLLM, Generation(SPEC, 2, 2))
    file.save(tmp_path, trace)
    again = file.load(tmp_path, trace.record_id)
    sizes = [[len(s.roles[role].kind) for role in ROLES] for s in trace.steps]
    assert [[len(s.roles[role].kind) for role in ROLES] for s in again.steps] == sizes


def test_a_damaged_or_foreign_file_is_told_in_one_line(layer: Trace, tmp_path: Path) -> None:
    path = file.save(tmp_path, layer)
    whole = path.read_bytes()
    arrays = dict(np.load(path))
    meta = json.loads(str(arrays["meta"]))

    def problem(found: bytes | dict[str, object]) -> str:
        if isinstance(found, bytes):
            path.write_bytes(found)
        else:
            np.savez(path, **found)  # type: ignore[arg-type]
        with pytest.raises(TraceError) as caught:
            file.load(tmp_path, layer.record_id)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        return str(caught.value).removeprefix(f"{path}: ")

    def told(**values: object) -> str:
        return problem({**arrays, "meta": np.array(json.dumps({**meta, **values}))})

    half = arrays["P0.wire_bytes"] // 2
    negative = -arrays["P1.before_wall"]
    for found in (b"", b"not a trace", whole[:-100], whole[: len(whole) // 2]):
        assert problem(found).startswith("not a whole trace: ")
    assert "pickle" in problem({**arrays, "start_ns": np.array([{}], object)})
    without = {name: array for name, array in arrays.items() if not name.startswith("P1")}
    assert problem(without) == "P0 has messages with nobody in this trace"
    assert told(schema=3) == "schema 3, this version reads schemas 4 to 5"
    assert told(id="other") == "it is the trace of other"
    assert problem({**arrays, "P0.wire_bytes": half}) == "what P0 sent is not what P1 received"
    assert "P1's times (before_wall)" in problem({**arrays, "P1.before_wall": negative})
    assert told(labels=[]) == "P0 has a label that is not in the table"
    assert problem({**arrays, "P0.kind": half * 0}) == "P0's operations do not end once"
    assert problem({**arrays, "start_ns": np.zeros((2, 2))}) == "P0 has 1 steps of 2"
    fewer = arrays["rested1.P0.wire_bytes"], arrays["rested1.P1.wire_bytes"]
    shorter = {f"rested1.P{i}.wire_bytes": np.minimum(b, 9) for i, b in enumerate(fewer)}
    assert problem({**arrays, **shorter}) == "its messages after waits are not those without"
    assert told(rested_s=[1, 2, 3]).startswith("not a whole trace: ")
    assert told(rested_s=[2, 1]) == "its waits do not become longer"
    path.unlink()
    assert "run it again with trace=true" in problem_of_nothing(tmp_path)


def test_a_file_of_the_schema_before_is_read() -> None:
    """It has no labels, and no sizes of payloads: those of its messages stand for them."""
    (path,) = (OLD / "traces").glob("*.npz")
    trace = file.load(OLD, path.stem)
    with np.load(path) as arrays:
        assert json.loads(str(arrays["meta"]))["schema"] == 4
        sent = arrays["P0.wire_bytes"]
    (step,) = trace.steps
    assert (step.roles["P0"].payload_bytes == sent).all()
    assert step.roles["P0"].labels == ("",) * len(sent)
    profiles = dict.fromkeys(permutations(ROLES, 2), LinkProfile(delay_s=0.004))
    (costs,) = costs_of(trace, "wall", 0.0)
    assert simulate(step, costs, links_of([profiles]))[TIME].tolist() == [[8e6]] * trace.evaluations


def problem_of_nothing(folder: Path) -> str:
    with pytest.raises(TraceError) as caught:
        file.load(folder, "0" * 16)
    return str(caught.value)
