"""What a run may choose of TFHE."""

from dataclasses import dataclass, field
from typing import Literal

from protocols.options import doc


@dataclass(frozen=True)
class TfheOptions:
    """The system's options."""

    linear_bits: Literal[3, 4, 5, 6, 7, 8] = field(
        default=7, metadata=doc("bits of a value and of a weight in a linear layer")
    )
    table_bits: Literal[3, 4, 5, 6] = field(
        default=6, metadata=doc("bits of a value that goes through a table, and of what comes out")
    )
