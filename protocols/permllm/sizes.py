"""Payload bytes and hops of the paper's variant.

The tables in the steps' docstrings, added up. h heads, n new tokens, L keys, w = d/h; an element has
8 bytes, one in a window 4; with float32 shares both have 4.
"""

from collections import Counter
from dataclasses import dataclass

from protocols.arith.prg import KEY_BYTES
from protocols.party import P0, P1, P2, Phase, Role
from protocols.permllm.attention_tiles import score_count
from protocols.permllm.private_lookup import Lookup
from protocols.system import PhaseCost
from protocols.transformer.model import visible_prefix
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Generation, Layer, steps

Bytes = Counter[tuple[Role, Role]]
EXPONENT_BYTES = 8
_KEYS: Bytes = Counter({(P2, P0): KEY_BYTES, (P2, P1): KEY_BYTES})
_MATRICES = 4  # weight exponents agreed on in a layer
_TABLES = 2  # and in a model


@dataclass(frozen=True)
class Rows:
    """One step: n new rows, `length` keys in all. dealt: how many slots were dealt before. picks: tokens
    that come out. prefix: keys that every row sees."""

    n: int
    length: int
    dealt: int = 0
    picks: int = 1
    prefix: int = 0


def rows_of(work: Generation) -> list[Rows]:
    """Of every step: the first with one new row deals all slots, a later one can leave some."""
    found, length, dealt = [], 0, 0
    prefix = visible_prefix(work.spec, work.prompt_len)
    for step in steps(work):
        length += step.tokens
        found.append(Rows(step.tokens, length, dealt, step.picks, prefix))
        dealt = length if step.tokens == 1 else 0
    return found


@dataclass(frozen=True)
class Sizes:
    """Costs for elements of `wide` bytes, of `narrow` bytes in a window. overlap: of tokens."""

    wide: int
    narrow: int
    lookup: type[Lookup]
    overlap: bool = False

    def argmax(self, n: int) -> dict[Phase, PhaseCost]:
        """Share, select."""
        key = self.lookup.costs(n).key
        online = self._selected(n) + Counter({(P1, P0): self.narrow * n})
        return {
            "prepare": PhaseCost(2 if key else 1, _KEYS + Counter({(P1, P0): key})),
            "offline": PhaseCost(1, self._selected_offline(n)),
            "input": PhaseCost(0),
            "online": PhaseCost(4, online),
        }

    def nonlinear(self, size: int) -> dict[Phase, PhaseCost]:
        """One permuted function."""
        return {
            "prepare": PhaseCost(1, _KEYS),
            "offline": PhaseCost(1, self._permuted_offline(size)),
            "input": PhaseCost(1, {(P1, P0): self.wide * size}),
            "online": PhaseCost(2, self._permuted_online(size)),
        }

    def linear(self, n: int, d_in: int, d_out: int) -> dict[Phase, PhaseCost]:
        """One linear layer."""
        weights = Counter({(P0, P1): self.wide * d_out * d_in})
        exponent = Counter({(P0, P1): EXPONENT_BYTES, (P0, P2): EXPONENT_BYTES})
        return {
            "prepare": PhaseCost(2, _KEYS + weights + exponent),
            "offline": PhaseCost(2, self._linear_offline(n * d_out)),
            "input": PhaseCost(1, {(P1, P0): self.wide * n * d_in}),
            "online": PhaseCost(0),
        }

    def layer(self, work: Layer) -> dict[Phase, PhaseCost]:
        """One layer; its cached rows are opened to P1 in the input phase."""
        spec, n, past = work.spec, work.q_len, work.kv_len - work.q_len
        opened, rows = 2 * self.wide * spec.d_kv * past, Rows(n, work.kv_len)
        given = Counter({(P1, P0): self.wide * n * spec.d_model + opened})
        given += Counter({(P0, P1): opened})
        return {
            "prepare": PhaseCost(2, _KEYS + self._layer_prepare(spec)),
            "offline": PhaseCost(2, self._layer_offline(spec, rows)),
            "input": PhaseCost(2 if past else 1, given),
            "online": PhaseCost(self.layer_hops(spec, rows, True), self._layer_online(spec, rows)),
        }

    def generation(self, work: Generation, passes: int) -> dict[Phase, PhaseCost]:
        """Embedding, layers, head and selection of every step. passes: of the offline phase."""
        spec = work.spec
        prepare = _KEYS + self._tables_prepare(spec)
        for _ in range(spec.n_layers):
            prepare = prepare + self._layer_prepare(spec)
        offline, online, hops = Bytes(), Bytes(), 0
        plan = rows_of(work)
        for rows in plan:
            offline += self._ends_offline(spec, rows)
            online += self._ends_online(spec, rows)
            hops += self.layer_hops(spec, rows) * spec.n_layers + self._ends_hops(spec)
            for _ in range(spec.n_layers):
                offline += self._layer_offline(spec, rows)
                online += self._layer_online(spec, rows)
        if self.overlap and spec.family != "bert":
            hops -= 2 * (len(plan) - 1)
            choice = self._embedded(spec) * spec.vocab
            offline += Counter({(P2, P0): choice * len(plan)})  # c
            online += Counter({(P1, P0): choice})  # the one-hot after the last token
        return {
            "prepare": PhaseCost(2 * spec.n_layers + self._last_key(spec), prepare),
            "offline": PhaseCost(2 * passes, offline),
            "input": PhaseCost(0),
            "online": PhaseCost(hops, online),
        }

    def _last_key(self, spec: TransformerSpec) -> int:
        """Hops of the lookup's key after the weights."""
        return int(spec.family != "bert" and self.lookup.costs(spec.vocab).key > 0)

    def _selected(self, n: int) -> Bytes:
        costs = self.lookup.costs(n)
        return Counter({(P0, P1): self.narrow * n + costs.reply, (P1, P0): costs.query})

    def _selected_offline(self, n: int) -> Bytes:
        return Counter({(P2, P1): self.narrow * n + self.lookup.costs(n).dealt})

    def _permuted_offline(self, size: int, inputs: int = 1) -> Bytes:
        return Counter({(P2, P1): self.narrow * size * inputs, (P2, P0): self.wide * size})

    def _permuted_online(self, size: int, inputs: int = 1) -> Bytes:
        return Counter({(P0, P1): self.narrow * size * inputs, (P1, P0): self.wide * size})

    def _linear_offline(self, size: int) -> Bytes:
        return Counter({(P2, P1): self.wide * size, (P1, P0): self.wide * size})

    def _layer_prepare(self, spec: TransformerSpec) -> Bytes:
        d, inner = spec.d_model, _inner(spec)
        weights = (2 * d + 2 * spec.d_kv + inner + spec.d_ff + _diagonals(spec)) * d
        exponents = EXPONENT_BYTES * _MATRICES
        return Counter({(P0, P1): self.wide * weights + exponents, (P0, P2): exponents})

    def layer_hops(self, spec: TransformerSpec, rows: Rows, alone: bool = False) -> int:
        """Of a layer in a model, or of one that stands alone."""
        return 12

    def _ends_hops(self, spec: TransformerSpec) -> int:
        return 4 if spec.family == "bert" else 6

    def _layer_offline(self, spec: TransformerSpec, rows: Rows) -> Bytes:
        """Linear layers, norm 1, attention, and what comes after it."""
        d, n = spec.d_model, rows.n
        outputs = n * (3 * d + 2 * spec.d_kv + _inner(spec) + _diagonals(spec) * d)
        rotary = self.wide * n * (d + spec.d_kv) if spec.rotary else 0
        total = self._linear_offline(outputs) + Counter({(P2, P0): rotary})
        total += self._permuted_offline(n * d)
        return total + self.attention_offline(spec, rows) + self._after_offline(spec, n)

    def _layer_online(self, spec: TransformerSpec, rows: Rows) -> Bytes:
        total = self._permuted_online(rows.n * spec.d_model) + self._attention_online(spec, rows)
        return total + self._after_online(spec, rows.n)

    def attention_offline(self, spec: TransformerSpec, rows: Rows) -> Bytes:
        """Scores, softmax, sum of the values."""
        scores = score_count(spec, rows.n, rows.length, rows.prefix)
        shares = self.wide * (scores + rows.n * spec.d_model)
        return self._permuted_offline(scores) + Counter({(P2, P1): shares})

    def _attention_online(self, spec: TransformerSpec, rows: Rows) -> Bytes:
        d, n, wide = spec.d_model, rows.n, self.wide
        scores = score_count(spec, n, rows.length, rows.prefix)
        opened = wide * n * (d + 2 * spec.d_kv)
        sent = Counter({(P0, P1): opened + wide * scores, (P1, P0): wide * (scores + n * d)})
        return sent + self._permuted_online(scores)

    def _after_offline(self, spec: TransformerSpec, n: int) -> Bytes:
        """Norm 2 and the activation."""
        activation = self._permuted_offline(n * spec.d_ff, 2 if spec.gated else 1)
        return self._permuted_offline(n * spec.d_model) + activation

    def _after_online(self, spec: TransformerSpec, n: int) -> Bytes:
        activation = self._permuted_online(n * spec.d_ff, 2 if spec.gated else 1)
        return self._permuted_online(n * spec.d_model) + activation

    def _tables_prepare(self, spec: TransformerSpec) -> Bytes:
        d, exponents = spec.d_model, EXPONENT_BYTES * _TABLES
        table = self._embedded(spec) * spec.vocab * d
        total = Counter({(P0, P1): table + exponents, (P0, P2): exponents})
        if spec.family == "bert":
            return total + Counter({(P0, P1): self.wide * d})
        key = self.lookup.costs(spec.vocab).key
        return total + Counter({(P0, P1): self.wide * spec.vocab * d, (P1, P0): key})

    def _ends_offline(self, spec: TransformerSpec, rows: Rows) -> Bytes:
        n, picks, d = rows.n, rows.picks, spec.d_model
        embedded = self._embedded(spec) * n * d
        total = Counter({(P2, P1): embedded, (P1, P0): embedded})
        if spec.family == "bert":
            return total + self._permuted_offline(n * d) + self._linear_offline(n * d)
        head = self._linear_offline(picks * spec.vocab)
        chosen = self._final_norm_offline(spec) + self._selected_offline(spec.vocab)
        return total + head + _times(picks, chosen)

    def _ends_online(self, spec: TransformerSpec, rows: Rows) -> Bytes:
        n, d = rows.n, spec.d_model
        total = Counter({(P1, P0): self._embedded(spec) * n * spec.vocab})
        if spec.family == "bert":
            return total + self._permuted_online(n * d) + Counter({(P0, P1): self.wide * n * d})
        chosen = self._final_norm_online(spec) + self._selected(spec.vocab)
        return total + _times(rows.picks, chosen)

    def _embedded(self, spec: TransformerSpec) -> int:
        """Bytes of an element of the embedding."""
        return self.narrow

    def _final_norm_offline(self, spec: TransformerSpec) -> Bytes:
        return self._permuted_offline(spec.d_model)

    def _final_norm_online(self, spec: TransformerSpec) -> Bytes:
        return self._permuted_online(spec.d_model)


def _times(count: int, sent: Bytes) -> Bytes:
    return Counter({pair: count * size for pair, size in sent.items()})


def _inner(spec: TransformerSpec) -> int:
    return spec.d_ff * (2 if spec.gated else 1)


def _diagonals(spec: TransformerSpec) -> int:
    return 2 if spec.family in ("glm", "bert") else 0
