"""Every stream of keys is read once in a session, by the roles that should, for what it should."""

from typing import Any

import pytest

from baselines.mpcformer.settings import Settings
from harness.registry import system_class
from protocols.workload import Argmax, Generation, Layer, Linear, Nonlinear, Workload
from tests.play import FAMILIES, small
from tests.views.ledger import KEYS, complaints
from tests.views.sessions import whole
from tests.views.watch import watch

REUSED = Settings("exact", reuse_weight_masks=True, truncation="exact")
WORK: list[Workload] = [
    Argmax(5),
    Linear(2, 3, 2),
    Nonlinear("softmax", (2, 3)),
    Layer(small("llama", 2), 2, 5),
    *(Generation(small(family), 3, 0 if family == "bert" else 3) for family in FAMILIES),
    Generation(small("glm"), 2, 2, tie_layers=True),
]
SYSTEMS: list[tuple[str, Any]] = [
    ("permllm", None),
    ("mpcformer", None),
    ("mpcformer", REUSED),
    ("puma", None),
]


@pytest.mark.parametrize("work", WORK, ids=lambda work: type(work).__name__)
@pytest.mark.parametrize(("name", "options"), SYSTEMS, ids=str)
def test_streams_of_a_session(name: str, options: Any, work: Workload) -> None:
    """Two evaluations, with all steps of a generation: a key, a name and a role meet once."""
    session = watch(whole(system_class(name), work, options, evaluations=2))
    assert session.reads
    assert complaints(session, KEYS[name]) == []
