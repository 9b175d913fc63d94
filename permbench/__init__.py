"""permbench for programs: load results, run configurations, and write systems of your own.

    import permbench

    table = permbench.load("results/runs")                    # a pandas.DataFrame, a row a run
    permbench.run("experiment=layer", "model=gpt2")           # the same, measured now

A system of your own subclasses `System`, or `SharesSystem` where its values are secret shares;
`examples/own_system` is a whole one. All that it needs is named in `__all__`.
"""

from harness.errors import ConfigError
from harness.measure.python_api import run
from harness.records.dataframe import COLUMNS, load
from harness.records.record import Record
from harness.version import version as _version
from protocols.arith.prg import Prg, Stream
from protocols.arith.ring import linear, matmul
from protocols.errors import PeerError, Unsupported
from protocols.inputs import linear_input
from protocols.options import doc
from protocols.party import ALL_ROLES, P0, P1, P2, ROLES, Party, Phase, Role
from protocols.shares.primitives import (
    Primitives,
    Seen,
    SharedCache,
    SharedEmbedding,
    SharedLayer,
    SharedLinear,
)
from protocols.shares.system import SharesSystem
from protocols.system import Parts, PhaseCost, System
from protocols.transformer.forward import EXACT, Functions
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import folded_matrices, layer_shapes, synthetic_linear
from protocols.workload import (
    Argmax,
    Attention,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    UserInput,
    Workload,
)

__version__ = _version()

__all__ = [
    "ALL_ROLES",
    "COLUMNS",
    "EXACT",
    "P0",
    "P1",
    "P2",
    "ROLES",
    "Argmax",
    "Attention",
    "ConfigError",
    "Functions",
    "Generation",
    "Layer",
    "Linear",
    "Nonlinear",
    "Parts",
    "Party",
    "PeerError",
    "Phase",
    "PhaseCost",
    "Prg",
    "Primitives",
    "Record",
    "Role",
    "Seen",
    "SharedCache",
    "SharedEmbedding",
    "SharedLayer",
    "SharedLinear",
    "SharesSystem",
    "Stream",
    "System",
    "TransformerSpec",
    "Unsupported",
    "UserInput",
    "Workload",
    "doc",
    "folded_matrices",
    "layer_shapes",
    "linear",
    "linear_input",
    "load",
    "matmul",
    "run",
    "synthetic_linear",
]
