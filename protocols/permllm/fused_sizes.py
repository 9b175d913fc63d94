"""Payload bytes and hops with variant=fused: steps of one new row have fewer hops (`fused_layer`).

A number modulo 2^40 has 5 bytes, one modulo 2^48 6.
"""

from collections import Counter
from dataclasses import dataclass, field

from protocols.arith.punctured import SEED_BYTES, depth_of
from protocols.party import P0, P1, P2
from protocols.permllm.domain import domain_of
from protocols.permllm.options import PermLLMOptions, slots_dealt
from protocols.permllm.sizes import Bytes, Rows, Sizes
from protocols.permllm.slot_softmax import SCORE_BYTES
from protocols.permllm.slots import dealt_anew
from protocols.permllm.square_sum import SHORT_BYTES
from protocols.permllm.token_selection import LOOKUPS
from protocols.transformer.spec import TransformerSpec


@dataclass(frozen=True)
class FusedSizes(Sizes):
    """The same in fewer hops."""

    options: PermLLMOptions = field(default_factory=PermLLMOptions)

    def layer_hops(self, spec: TransformerSpec, rows: Rows, alone: bool = False) -> int:
        """A layer of BERT that stands alone has one more: no reply stands before its attention."""
        if rows.n > 1:
            return 12
        attention = 4 if self.options.refresh == "scores" else 2
        return attention + (4 if spec.rms_norm else 6) + (alone and not spec.norm_first)

    def _ends_hops(self, spec: TransformerSpec) -> int:
        return super()._ends_hops(spec) - (2 if spec.rms_norm else 0)

    def attention_offline(self, spec: TransformerSpec, rows: Rows) -> Bytes:
        """Scores, softmax, sum of the values."""
        if rows.n > 1:
            return super().attention_offline(spec, rows)
        d, h, length, wide = spec.d_model, spec.n_heads, rows.length, self.wide
        slots = dealt_anew(length, rows.dealt, slots_dealt(self.options))
        values = self.options.refresh != "scores"
        tree = SEED_BYTES * h * depth_of(slots)
        rows_sent = (SCORE_BYTES + (wide if values else 0)) * slots * d
        to_p0 = rows_sent + SCORE_BYTES * d + wide * h * length + tree
        to_p1 = SCORE_BYTES * h * (2 * length - 1) + wide * d
        told = wide * slots if slots < length else 0
        return Counter({(P2, P0): to_p0, (P2, P1): to_p1 + told})

    def _attention_online(self, spec: TransformerSpec, rows: Rows) -> Bytes:
        if rows.n > 1:
            return super()._attention_online(spec, rows)
        d, scores, wide = spec.d_model, spec.n_heads * rows.length, self.wide
        to_p1 = SCORE_BYTES * (2 * d + scores) + 2 * wide * spec.d_kv
        to_p0 = SCORE_BYTES * (scores - spec.n_heads) + wide * scores
        if self.options.refresh == "scores":
            return Counter({(P0, P1): to_p1 + wide * scores, (P1, P0): to_p0 + wide * d})
        return Counter({(P0, P1): to_p1, (P1, P0): to_p0 + 2 * wide * d})

    def _after_offline(self, spec: TransformerSpec, n: int) -> Bytes:
        if n > 1 or not spec.rms_norm:
            return super()._after_offline(spec, n)
        return self._squares_offline(spec) + self._permuted_offline(spec.d_ff, 2)

    def _after_online(self, spec: TransformerSpec, n: int) -> Bytes:
        if n > 1 or not spec.rms_norm:
            return super()._after_online(spec, n)
        return self._squares_online(spec) + self._permuted_online(spec.d_ff, 2)

    def _embedded(self, spec: TransformerSpec) -> int:
        return self.wide if spec.rms_norm else self.narrow

    def _final_norm_offline(self, spec: TransformerSpec) -> Bytes:
        return self._squares_offline(spec) if spec.rms_norm else super()._final_norm_offline(spec)

    def _final_norm_online(self, spec: TransformerSpec) -> Bytes:
        return self._squares_online(spec) if spec.rms_norm else super()._final_norm_online(spec)

    def _squares_offline(self, spec: TransformerSpec) -> Bytes:
        return Counter({(P2, P0): SHORT_BYTES * spec.d_model, (P2, P1): self.wide})

    def _squares_online(self, spec: TransformerSpec) -> Bytes:
        return Counter({(P0, P1): self.wide * (spec.d_model + 1)})


def sizes_of(options: PermLLMOptions) -> Sizes:
    """Of the variant that the options ask for."""
    domain, lookup = domain_of(options), LOOKUPS[options.selection]
    wide, narrow = domain.dtype.itemsize, domain.window_dtype.itemsize
    if options.variant == "fused":
        return FusedSizes(wide, narrow, lookup, True, options)
    return Sizes(wide, narrow, lookup)
