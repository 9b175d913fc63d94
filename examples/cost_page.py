"""What a decoded token of PermLLM must take at least, from the declared costs of each variant.

python examples/cost_page.py [KEYS [FOLDER]]        keys in the cache, default 128

    floor = hops · one-way delay + online bytes / rate + bytes of P0's weights / memory rate

P0's and P1's messages alternate, so the bytes of both directions count. Offline is what the dealer sends,
over one link of its own. What was measured stands in parentheses, from the records of FOLDER: a layer's
median online time, or that of a model's decoded tokens; *: over a link outside tolerance. METHODOLOGY.md has
what this prints.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

import pandas as pd

import permbench
from harness.config.compose import compose_run
from protocols.footprint import layer_weights
from protocols.party import P2
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.system import PermLLM
from protocols.system import PhaseCost
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Generation, Layer

MODELS = ("gpt2", "llama-2-7b", "chatglm-6b")
NETWORKS = ("permllm-wan", "puma", "nexus", "sigma-lan")
VARIANTS = {
    "paper": PermLLMOptions(selection="ot"),
    "fused, full": PermLLMOptions(variant="fused", refresh="full", selection="ot"),
    "fused, scores": PermLLMOptions(variant="fused", refresh="scores", selection="ot"),
    "fused, bounded": PermLLMOptions(variant="fused", refresh="bounded", selection="ot"),
}
ALONE = ("paper", "fused, full", "fused, scores")  # a layer alone deals all slots
RECORDS = Path(__file__).parents[1] / "results/reference/variants"
MEMORY_GB_S = 13.0  # what one thread reads of weights at best: python -m tests.weight_speed
DEALER_GBIT_S = (1, 10)


@dataclass(frozen=True)
class Link:
    """One way between P0 and P1."""

    delay_s: float
    rate_bit_s: float


@dataclass(frozen=True)
class Costs:
    """Of one decoded token, or of one layer for it. Sizes in bytes."""

    hops: int
    online: int
    dealt: int
    weights: int

    def online_s(self, link: Link) -> float:
        """The floor."""
        sent = 8 * self.online / link.rate_bit_s
        return self.hops * link.delay_s + sent + self.weights / (MEMORY_GB_S * 1e9)

    def offline_s(self, gbit_s: float) -> float:
        """What the dealer's link takes."""
        return 8 * self.dealt / (gbit_s * 1e9)


class Measured:
    """Median online times in seconds, of records of one folder."""

    def __init__(self, folder: Path) -> None:
        runs = permbench.load(folder)
        self._runs = runs[(runs["status"] == "ok") & (runs["system.weight_bits"] == 16)]
        self._steps = permbench.load(folder, "steps")

    def layer(self, model: str, variant: str, network: str) -> str:
        """Of one layer, as a cell says it."""
        runs = self._of("layer", model, variant, network)
        return _taken(runs["online.median_ns"], runs)

    def token(self, model: str, variant: str, network: str) -> str:
        """Of one decoded token, as a cell says it."""
        runs = self._of("model", model, variant, network)
        steps = self._steps[self._steps["id"].isin(runs["id"])]
        return _taken(steps[steps["kind"] == "decode"]["wall_ns"], runs)

    def _of(self, experiment: str, model: str, variant: str, network: str) -> pd.DataFrame:
        options, runs = VARIANTS[variant], self._runs
        wanted = {
            "experiment.name": experiment,
            "model.name": model,
            "network.name": network,
            "system.variant": options.variant,
            "system.refresh": options.refresh,
        }
        for key, value in wanted.items():
            runs = runs[runs[key] == value]
        return runs


def _taken(times_ns: "pd.Series[int]", runs: pd.DataFrame) -> str:
    if not len(times_ns):
        return ""
    off = "" if runs["within_tolerance"].all() else "*"
    return f" ({_ms(median(times_ns) / 1e9)}{off})"


def of_layer(spec: TransformerSpec, options: PermLLMOptions, keys: int) -> Costs:
    """One layer, one new token."""
    cost = PermLLM.cost(Layer(spec, 1, keys), options)
    hops, dealt = cost["online"].hops, _dealt(cost["offline"])
    return Costs(hops, _bytes(cost["online"]), dealt, 2 * layer_weights(spec))


def of_token(spec: TransformerSpec, options: PermLLMOptions, keys: int) -> Costs:
    """A whole token in the middle of an answer: what the fourth one decoded adds."""
    more, less = (
        PermLLM.cost(Generation(spec, keys - 4, new_tokens), options) for new_tokens in (5, 4)
    )
    tables = 2 * spec.vocab * spec.d_model
    return Costs(
        more["online"].hops - less["online"].hops,
        _bytes(more["online"]) - _bytes(less["online"]),
        _dealt(more["offline"]) - _dealt(less["offline"]),
        2 * (spec.n_layers * layer_weights(spec) + tables),
    )


def _bytes(phase: PhaseCost) -> int:
    return sum(phase.payload_bytes.values())


def _dealt(phase: PhaseCost) -> int:
    return sum(size for (source, _), size in phase.payload_bytes.items() if source == P2)


def link_of(network: str) -> Link:
    """A network's link from P0 to P1."""
    profile = compose_run([f"network={network}"]).network.profiles(("P0", "P1"))["P0", "P1"]
    assert profile.rate_bit_s is not None
    return Link(profile.delay_s, profile.rate_bit_s)


def costs_table(
    costs: dict[str, Costs],
    links: dict[str, Link],
    measured: Callable[[str, str], str],
) -> Iterator[str]:
    """A row a variant; the least online floor of each network in bold. measured: by variant, network."""
    heads = ["hops", "online MB", *links, "dealt MB", *(f"at {r} Gbit/s" for r in DEALER_GBIT_S)]
    yield from _head(["variant", *heads])
    least = {
        name: min(each.online_s(link) for each in costs.values()) for name, link in links.items()
    }
    for name, each in costs.items():
        cells = [str(each.hops), _mb(each.online)]
        for network, link in links.items():
            text = _ms(each.online_s(link))
            bold = f"**{text}**" if each.online_s(link) == least[network] else text
            cells.append(bold + measured(name, network))
        cells += [_mb(each.dealt), *(_ms(each.offline_s(rate)) for rate in DEALER_GBIT_S)]
        yield _row([name, *cells])


def winners_table(costs: dict[str, dict[str, Costs]], links: dict[str, Link]) -> Iterator[str]:
    """For each model and network, which variant's token is the first: offline work one after the other
    with online work, or hidden behind it."""
    ways = [f"{how}, {rate} Gbit/s" for how, rate in product(("in all", "hidden"), DEALER_GBIT_S)]
    yield from _head(["model", "network", "online alone", *ways])
    for (model, variants), (network, link) in product(costs.items(), links.items()):
        online = {name: each.online_s(link) for name, each in variants.items()}
        cells = [_least(online)]
        for how, rate in product((sum, max), DEALER_GBIT_S):
            offline = {name: each.offline_s(rate) for name, each in variants.items()}
            cells.append(_least({name: how((online[name], offline[name])) for name in variants}))
        yield _row([model, network, *cells])


def _least(times: dict[str, float]) -> str:
    name = min(times, key=lambda each: times[each])
    return f"{name}: {_ms(times[name])}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms" if seconds >= 0.0995 else f"{seconds * 1e3:.3g} ms"


def _mb(size: int) -> str:
    return f"{size / 1e6:.3g}"


def _head(cells: Sequence[str]) -> Iterator[str]:
    yield _row(cells)
    yield _row(["---"] * len(cells))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def page(keys: int, records: Path = RECORDS) -> Iterator[str]:
    """The lines of all tables."""
    measured = Measured(records)
    links = {name: link_of(name) for name in NETWORKS}
    tokens: dict[str, dict[str, Costs]] = {}
    for model in MODELS:
        spec = compose_run(["experiment=layer", f"model={model}"]).model.spec()
        layers = {name: of_layer(spec, VARIANTS[name], keys) for name in ALONE}
        tokens[model] = {name: of_token(spec, options, keys) for name, options in VARIANTS.items()}
        for what, costs, taken in (
            ("one layer", layers, partial(measured.layer, model)),
            ("a whole token", tokens[model], partial(measured.token, model)),
        ):
            weights = next(iter(costs.values())).weights
            read = _ms(weights / (MEMORY_GB_S * 1e9))
            yield f"**{model}, {what}** ({keys} keys; {weights / 1e9:.3g} GB of weights, {read} of it)"
            yield ""
            yield from costs_table(costs, links, taken)
            yield ""
    yield "**Which variant's token comes first**"
    yield ""
    yield from winners_table(tokens, links)


if __name__ == "__main__":
    words = sys.argv[1:]
    folder = Path(words[1]) if len(words) > 1 else RECORDS
    print("\n".join(page(int(words[0]) if words else 128, folder)))
