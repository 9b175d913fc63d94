"""What the roles take of memory: encoded weights at P0, and the encryptions of zero of one step.

A weight takes about 16 bytes at P0 under BFV: its polynomial's values modulo both primes. A row of x
takes an encryption of zero for each block at P1, and one for each group of the answer at P0. Under CKKS
a weight of a padded matrix takes 48 bytes, three words of 8 for each of a diagonal's N coefficients,
and P0 keeps rotation keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from baselines.he_linear.layer import SHUFFLED
from baselines.he_linear.options import HeLinearOptions
from baselines.he_linear.parameters import Shape, affine, embedding_shape
from baselines.he_linear.sizes import Sizes, sizes_of
from protocols.errors import Unsupported
from protocols.footprint import Footprint, Need, peaks
from protocols.footprint import sizes as counts
from protocols.party import P0, P1, P2, ROLES, Role
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import layer_shapes
from protocols.workload import Generation, Layer, Linear, Workload, steps

LIMIT_BYTES = 12 << 30


@dataclass(frozen=True)
class _Held:
    """A matrix of P0's. distinct: how many there are of its kind; used: how many a token goes through; rows:
    of x at once; anew: whether it is encoded for each row of each."""

    sizes: Sizes
    shape: Shape
    distinct: int
    used: int
    rows: int
    anew: bool = False

    @property
    def stored(self) -> int:
        """Bytes of all from `prepare` on: encoded, or numbers of 32 bits."""
        numbers = 4 * self.shape.rows * self.shape.columns
        return self.distinct * (numbers if self.anew else self.sizes.encoded_bytes(self.shape))

    @property
    def query(self) -> int:
        """Bytes of one query's encryptions of zero."""
        return self.rows * self.sizes.blank_bytes(self.shape)

    @property
    def reply(self) -> int:
        """Bytes of one reply's, and of what is encoded for it."""
        encoded = self.sizes.encoded_bytes(self.shape) if self.anew else 0
        return self.rows * (self.sizes.zero_bytes(self.shape) + encoded)

    @property
    def worked(self) -> dict[Role, int]:
        """Bytes of one query and reply in passing."""
        return self.sizes.worked_bytes(self.rows, self.shape)


def stored_bytes(workload: Workload, options: HeLinearOptions) -> dict[Role, int] | None:
    """P0: encoded weights and P1's keys; numbers in the place of what is shuffled. P1: the secret
    key. None without a matrix."""
    sizes = sizes_of(workload, options)
    if sizes is None:
        return None
    stored = sum(one.stored for one in _matrices(workload, options))
    return {P0: stored + sizes.kept_keys[P0], P1: sizes.kept_keys[P1], P2: 0}


def check_memory(workload: Workload, options: HeLinearOptions) -> None:
    """Raise Unsupported where a role would keep more than `LIMIT_BYTES`."""
    for role, kept in _kept(workload, options).items():
        if kept > LIMIT_BYTES:
            raise Unsupported(
                f"encoded weights and the encryptions of one step take {kept / 2**30:.0f} GiB at {role}, "
                f"more than {LIMIT_BYTES >> 30} GiB"
            )


def needs(workload: Workload, options: HeLinearOptions) -> dict[Role, Need]:
    """Of each role: what it keeps, P0's matrices as they are rounded, the largest query as it is worked on,
    and keys as they travel."""
    roles = {P0: Footprint(430e6, passing=12, element=60), P1: Footprint(430e6, element=60)}
    found = peaks(roles | {P2: Footprint(430e6)}, counts(workload))
    kept, scheme = _kept(workload, options), sizes_of(workload, options)
    for role in (P0, P1):
        worked = (one.worked[role] for one in _matrices(workload, options))
        kept[role] += max(worked, default=0) + (scheme.keys_in_passing if scheme else 0)
    return {role: Need(need.memory_bytes + kept[role]) for role, need in found.items()}


def _kept(workload: Workload, options: HeLinearOptions) -> dict[Role, int]:
    """Weights, and the encryptions of zero of the longest step."""
    total = dict.fromkeys(ROLES, 0) | (stored_bytes(workload, options) or {})
    for one in _matrices(workload, options):
        total[P0] += one.used * one.reply
        total[P1] += one.used * one.query
    return total


def _matrices(workload: Workload, options: HeLinearOptions) -> Iterator[_Held]:
    """All of them, in the longest step."""
    sizes = sizes_of(workload, options)
    if sizes is None:
        return
    if isinstance(workload, Linear):
        yield _Held(sizes, affine(workload.d_out, workload.d_in), 1, 1, workload.n)
    if isinstance(workload, Layer):
        yield from _layer(workload.spec, sizes, (1, 1, workload.q_len), options.shuffle)
    if isinstance(workload, Generation):
        spec, plan = workload.spec, steps(workload)
        tokens = max(step.tokens for step in plan)
        distinct = 1 if workload.tie_layers else spec.n_layers
        yield from _layer(spec, sizes, (distinct, spec.n_layers, tokens), options.shuffle)
        yield _Held(sizes, embedding_shape(spec), 1, 1, tokens)
        if spec.family != "bert":
            head = affine(spec.vocab, spec.d_model)
            yield _Held(sizes, head, 1, 1, max(step.picks for step in plan))


def _layer(
    spec: TransformerSpec, sizes: Sizes, kept: tuple[int, int, int], shuffle: bool
) -> Iterator[_Held]:
    for key, shape in layer_shapes(spec).items():
        yield _Held(sizes, affine(*shape), *kept, anew=shuffle and key in SHUFFLED)
