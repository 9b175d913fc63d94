"""Where a model's values are beyond what a system computes with: what a wrong answer may come from.

A plaintext pass over the same tokens knows every value: its layer, its size, and the bound it breaks.
"""

from collections.abc import Iterator, Sequence
from math import inf

import torch
from torch import Tensor

from protocols.bounds import Bound, Quantity
from protocols.system import PlainRun
from protocols.transformer.forward import EXACT, Functions, ModelForward
from protocols.transformer.model import ModelWeights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import folded_matrices

NORMAL_MEDIAN = 0.6745  # of magnitudes of normal numbers of deviation 1
NAMED = 3  # of all that is beyond
Seen = dict[tuple[Quantity, str], tuple[float, float]]  # least and largest magnitude at each place


def beyond_bounds(
    bounds: Sequence[Bound],
    spec: TransformerSpec,
    weights: ModelWeights,
    plain: PlainRun,
    steps: Sequence[Sequence[int]],
) -> list[str]:
    """What is beyond `bounds` when a model with these weights is given `steps`, by texts that name the
    place, the size and the bound; the worst first. plain: has the system's own functions."""
    if not bounds:
        return []
    watch = _Watch(spec, weights, getattr(plain, "functions", EXACT))
    model = ModelForward(spec, weights, watch.functions)
    for tokens in steps:
        _ = model.encode(tokens) if spec.family == "bert" else model.step(tokens)
    found = watch.seen | dict(_weight_peaks(spec, weights))
    told = [text for bound in bounds for text in _beyond(bound, found)]
    more = [f"and {len(told) - NAMED} more"] if len(told) > NAMED else []
    return [text for _, text in sorted(told, key=lambda t: -t[0])][:NAMED] + more


def _beyond(bound: Bound, seen: Seen) -> Iterator[tuple[float, str]]:
    """By how much, and the text."""
    remedy = f": {bound.remedy} mends it" if bound.remedy else ""
    for (quantity, place), (low, high) in seen.items():
        if quantity != bound.of:
            continue
        if high >= bound.high:
            text = f"{place}: {quantity} {high:.3g}, the system computes with less than"
            yield high / bound.high, f"{text} {bound.high:.4g}{remedy}"
        elif low < bound.low:
            text = f"{place}: {quantity} {low:.3g}, the system computes with more than"
            yield bound.low / low if low else inf, f"{text} {bound.low:.4g}{remedy}"


class _Watch:
    """Functions of a model that note what goes into them. seen: by quantity and place."""

    def __init__(self, spec: TransformerSpec, weights: ModelWeights, inner: Functions) -> None:
        self.seen: Seen = {}
        self._inner = inner
        self._layers = [f"layer{index}" for index in range(spec.n_layers)]
        norms = [f"{layer}/norm{number}" for layer in self._layers for number in (1, 2)]
        first = ["embedding/norm"] if weights.embedding_norm is not None else []
        last = ["head/norm"] if weights.final_norm is not None else []
        self._norms = [*first, *norms, *last]
        self._calls = dict.fromkeys(("norm", "softmax", "activation"), 0)
        self.functions = Functions(self._normalize, self._softmax, self._activate)

    def _place(self, kind: str, places: Sequence[str]) -> str:
        self._calls[kind] += 1
        return places[(self._calls[kind] - 1) % len(places)]

    def _note(self, quantity: Quantity, place: str, values: Tensor) -> None:
        low, high = self.seen.get((quantity, place), (inf, 0.0))
        size = values.abs()
        self.seen[quantity, place] = min(low, float(size.min())), max(high, float(size.max()))

    def _normalize(self, x: Tensor, eps: float, rms: bool) -> Tensor:
        place = self._place("norm", self._norms)
        mean = torch.zeros(1) if rms else x.mean(-1, keepdim=True)
        centred = x - mean
        self._note("norm input", place, x)
        self._note("norm mean", place, mean)
        self._note("norm deviation", place, centred.square().mean(-1).sqrt())
        return self._inner.normalize(x, eps, rms)

    def _softmax(self, x: Tensor, visible: Tensor | None) -> Tensor:
        self._note("score", self._place("softmax", self._layers), x)
        return self._inner.softmax(x, visible)

    def _activate(self, spec: TransformerSpec, inner: Tensor) -> Tensor:
        self._note("inner value", self._place("activation", self._layers), inner)
        return self._inner.activate(spec, inner)


def _weight_peaks(
    spec: TransformerSpec, weights: ModelWeights
) -> Iterator[tuple[tuple[Quantity, str], tuple[float, float]]]:
    """The largest weight of each matrix over their deviation, norms folded in. A median says that of the
    others: the largest is part of an rms."""
    for index, layer in enumerate(weights.layers):
        for name, matrix in folded_matrices(spec, layer):
            size = matrix.weight.abs()
            deviation = float(size.median()) / NORMAL_MEDIAN
            peak = float(size.max()) / deviation if deviation else 0.0
            yield ("weight peak", f"layer{index}/{name}"), (peak, peak)
