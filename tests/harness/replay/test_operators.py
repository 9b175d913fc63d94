"""Names on the wire, and what each operator of a traced run takes."""

from collections import Counter
from dataclasses import replace

import pytest

from baselines.mpcformer.system import MPCFormer
from baselines.plaintext.system import Plaintext
from baselines.puma.system import Puma
from harness.parties.trace_recorder import END, LOCAL, RECV, SEND
from harness.records.record import OperatorRecord
from harness.replay.operators import operator_of, operator_records
from harness.replay.trace import Step, Times, Trace
from protocols.party import P0, P1, Role
from protocols.permllm.system import PermLLM
from protocols.system import System
from protocols.workload import Argmax, Generation, Layer, Nonlinear, Workload, steps
from tests.play import small
from tests.traces import US, echo_trace, traced

SYSTEMS: tuple[type[System], ...] = (PermLLM, MPCFormer, Puma, Plaintext)
WORKLOADS: tuple[Workload, ...] = (
    Argmax(9),
    Nonlinear("softmax", (2, 5)),
    Layer(small("glm"), 1, 4),
    Generation(small("gpt2"), 2, 3),
    Generation(small("bert"), 3, 0),
)
# The online messages of one PermLLM layer, as its steps' message tables name them.
PERMLLM_LAYER = [
    *("norm1/reveal", "norm1/return", "scores/open", "scores/share"),
    *("softmax/reveal", "softmax/return", "sum/open", "sum/share"),
    *("norm2/reveal", "norm2/return", "activation/reveal", "activation/return"),
]


def sent_labels(step: Step, role: Role) -> list[str]:
    """Of each message of one role."""
    role_trace = step.roles[role]
    return [role_trace.labels[place] for place in (role_trace.kind == SEND).nonzero()[0]]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda work: type(work).__name__)
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_message_has_a_name_and_the_same_at_both_ends(
    system: type[System], workload: Workload
) -> None:
    trace, hops = traced(system, workload)
    kinds = [plan.kind for plan in steps(workload)]
    for step in trace.steps:
        sent, received = Counter[str](), Counter[str]()
        for role_trace in step.roles.values():
            for kind, label in zip(role_trace.kind, role_trace.labels, strict=True):
                assert label or kind in (END, LOCAL)
                sent[label] += kind == SEND
                received[label] += kind == RECV
        assert sent == received
    if len(trace.steps) == 1:
        assert sum(found.hops for found in operator_records(trace, kinds)) == hops


def test_a_permllm_layer_has_the_names_of_its_message_tables() -> None:
    trace, _ = traced(PermLLM, Generation(small("gpt2"), 2, 2))
    step = trace.steps[-1]
    for index in (0, 1):
        names = [f"layer {index}/{name}" for name in PERMLLM_LAYER]
        own = [[label for label in sent_labels(step, role) if label in names] for role in (P0, P1)]
        assert own == [names[::2], names[1::2]]
    others = {label for role in (P0, P1) for label in sent_labels(step, role)}
    assert {label for label in others if not label.startswith("layer")} == {
        *("embedding/onehot", "head/norm/reveal", "head/norm/return"),
        *("select/reveal", "select/query", "select/reply"),
    }
    computed = {label for label in step.roles[P0].labels if label.startswith("layer 1")}
    assert {f"layer 1/{name}" for name in ("qkv", "out", "up", "down")} < computed


def named(labels_p0: list[str], labels_p1: list[str]) -> Trace:
    """A trace of one exchange whose operations have these labels."""
    trace = echo_trace("x")
    (step,) = trace.steps
    given: dict[Role, list[str]] = {P0: labels_p0, P1: labels_p1}
    roles = {role: replace(step.roles[role], labels=tuple(given[role])) for role in step.roles}
    return replace(trace, steps=(replace(step, roles=roles),))


def test_the_numbers_of_an_operator() -> None:
    """P0 sends a MB and waits for 8 bytes, P1 computes 700 µs between, 420 of them on its core."""
    label = "layer 3/softmax/"
    trace = named(
        [f"{label}reveal", f"{label}return", ""], [f"{label}reveal", f"{label}return", ""]
    )
    p0, p0_rest, p1, p1_rest = operator_records(trace, ["whole"])
    wait = 100 - 10 + 700 + 100
    assert p0 == OperatorRecord(
        *("P0", "layer/softmax", (5 + 10 + 6) * US, (5 + 10 + 6) * US, (wait - 6) * US),
        *(1, 1_000_000, 1),
    )
    first = 20 + 5 + 100 - 30
    assert p1 == OperatorRecord(
        *("P1", "layer/softmax", (6 + 700 + 10) * US, (6 + 420 + 10) * US, (first - 6) * US),
        *(1, 8, 1),
    )
    assert p0_rest == OperatorRecord("P0", "other", 0, 0, 0, 0, 0, 0)
    assert p1_rest == replace(p0_rest, role="P1")


def test_of_a_generation_the_decode_steps_count() -> None:
    """One sends 8 bytes more than the prefill, which is left out."""
    trace = echo_trace("x")
    (step,) = trace.steps
    larger = {
        role: replace(role_trace, payload_bytes=role_trace.payload_bytes + 8)
        for role, role_trace in step.roles.items()
    }
    longer = replace(trace, steps=(step, replace(step, roles=larger)))
    found = {r.role: r for r in operator_records(longer, ["prefill", "decode"])}
    assert (found["P0"].payload_bytes, found["P0"].hops) == (1_000_008, 1)
    whole = {r.role: r for r in operator_records(trace, ["prefill"])}
    assert whole["P0"].payload_bytes == 1_000_000


def test_compute_and_waits_are_the_whole_time() -> None:
    trace, _ = traced(MPCFormer, Layer(small("llama"), 2, 5))
    one = first_evaluation(trace)
    for role in (P0, P1):
        role_trace = one.steps[0].roles[role]
        took = role_trace.times.before_wall + role_trace.times.during_wall
        own = [found for found in operator_records(one, ["whole"]) if found.role == role]
        total = sum(found.compute_wall_ns + found.wait_ns for found in own)
        assert total == took.sum()


def first_evaluation(trace: Trace) -> Trace:
    """A trace of one step, with its first evaluation alone."""
    (step,) = trace.steps
    roles = {}
    for role, own in step.roles.items():
        times = Times(*(values[:1] for values in vars(own.times).values()))
        roles[role] = replace(own, times=times, begin_ns=own.begin_ns[:1])
    return replace(trace, steps=(Step(step.start_ns[:1], roles),), delayed=())


@pytest.mark.parametrize(
    ("label", "operator"),
    [
        ("layer 31/softmax/reveal", "layer/softmax"),
        ("layer/qkv", "layer/qkv"),
        ("layer 0", "layer"),
        ("layered/qkv", "layered"),
        ("select/query", "select"),
        ("", "other"),
    ],
)
def test_operators_of_labels(label: str, operator: str) -> None:
    assert operator_of(label) == operator
