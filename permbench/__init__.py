"""permbench for programs: load results, run configurations, and write systems of your own.

    import permbench

    table = permbench.load("results/runs")                    # a pandas.DataFrame, a row a run
    permbench.run("experiment=layer", "model=gpt2")           # the same, measured now

A system of your own subclasses `System`; `examples/own_system` is a whole one. All that it needs is
named in `__all__`.
"""

from harness.errors import ConfigError
from harness.measure.library import run
from harness.records.dataframe import COLUMNS, load
from harness.records.record import Record
from harness.version import version as _version
from protocols.arith.prg import Prg, Stream
from protocols.arith.ring import linear, matmul
from protocols.errors import PeerError, Unsupported
from protocols.inputs import linear_input
from protocols.options import doc
from protocols.party import P0, P1, P2, ROLES, Party, Phase, Role
from protocols.system import Parts, PhaseCost, System
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import synthetic_linear
from protocols.workload import (
    Argmax,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    UserInput,
    Workload,
)

__version__ = _version()

__all__ = [
    "COLUMNS",
    "P0",
    "P1",
    "P2",
    "ROLES",
    "Argmax",
    "ConfigError",
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
    "Record",
    "Role",
    "Stream",
    "System",
    "TransformerSpec",
    "Unsupported",
    "UserInput",
    "Workload",
    "doc",
    "linear",
    "linear_input",
    "load",
    "matmul",
    "run",
    "synthetic_linear",
]
