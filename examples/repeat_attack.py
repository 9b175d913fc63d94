"""What a user of PermLLM can compute about the model by asking one query again and again.

    python examples/repeat_attack.py [--repeats 3000] [--width 64]        (some minutes)

P1 asks for one layer of a small GPT-2, with one token, under fresh keys each time. It knows the masks
it drew, in order; it sees the permuted input of the second norm. The input is the same in all repeats
but for rounding:

    h_i = Σ_j W_out[i, j]·o_j + x_i,   o_j off by c_j ulp,   what P1 sees of h_i off by w_i ulp

1. Sorting links the permuted values over repeats: track t is one coordinate, which one is not known.
2. If c_j is a comparison with a mask that P1 knows, the jitter of the tracks is a linear function of
   [mask_j > threshold_j]: the thresholds are fitted, regression gives a column of W_out for each j.
3. If w_i is one as well, what is left of a track goes together with one mask alone: its position.

Printed: how many coordinates stand where the attack says, and the correlation of its W_out with the
true one. The true permutation and weights are used for these two numbers only. Where rounding tells
nothing, the first is about 1/width and the second about 0.
"""

import argparse
from collections import defaultdict
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocols.in_process_party import MemoryParty, run_parties
from protocols.party import P0, P1, ROLES
from protocols.permllm.context import Context
from protocols.permllm.masked_value import Masked
from protocols.permllm.permuted_functions import Revealed
from protocols.permllm.system import PermLLM
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import synthetic_layer
from protocols.workload import Layer

Matrix = NDArray[np.float64]
LOW = (1 << 16) - 1
SHOWN_BITS = 12  # low mask bits that decide how a window rounds, of 12 or more
THRESHOLDS = np.linspace(0.02, 0.98, 97)
SWEEPS = 3


def low_bits(mask: Tensor) -> Tensor:
    """The lowest 16 bits of a mask that P1 knows: where they are zero, those above."""
    known = mask.reshape(-1)
    return (known if bool((known & LOW).any()) else known >> 16) & LOW


def ask(spec: TransformerSpec, repeats: int) -> dict[str, Matrix]:
    """`values`, `norm`: P1's masks of v and of the second norm's input; `seen`: what P1 saw there;
    `index`: the permutation. One row a repeat."""
    work, notes = Layer(spec, 1, 1), defaultdict[str, list[Tensor]](list)
    truncate, offline, online = Context.truncate, Revealed.offline, Revealed.online

    def cut(self: Context, x: Masked, bits: int) -> Masked:
        if self.role == P1 and x.half is not None and x.shape[-1] == 3 * spec.d_model:
            notes["values"].append(low_bits(x.half[:, 2 * spec.d_model :]))
        return truncate(self, x, bits)

    def deal(self: Revealed, inputs: list[Masked], rows: int = 1) -> None:
        offline(self, inputs, rows)
        if self.name == "layer/norm2" and self.role == P1:
            notes["norm"].append(inputs[0].flat & ((1 << SHOWN_BITS) - 1))
        if self.name == "layer/norm2" and self.role == P0:
            notes["index"].append(self.index.clone())

    def reveal(self: Revealed, inputs: list[Masked]) -> Tensor | None:
        seen = online(self, inputs)
        if self.name == "layer/norm2" and seen is not None:
            notes["seen"].append(seen.reshape(-1).clone())
        return seen

    def walk(party: MemoryParty) -> None:
        system = PermLLM(party, work, 0, PermLLM.Options())
        with party.phase("prepare"):
            system.prepare()
        for _ in range(repeats):
            with party.phase("offline"):
                system.offline(0)
            with party.phase("input"):
                system.share_input(0)
            with party.phase("online"):
                system.online(0)

    with (
        patch.object(Context, "truncate", cut),
        patch.object(Revealed, "offline", deal),
        patch.object(Revealed, "online", reveal),
    ):
        run_parties(dict.fromkeys(ROLES, walk), timeout_s=600)
    return {name: torch.stack(rows).double().numpy() for name, rows in notes.items()}


def regress(steps: Matrix, tracks: Matrix) -> Matrix:
    """Least squares: coefficients (masks, tracks)."""
    coefficients: Matrix = np.linalg.lstsq(steps, tracks, rcond=None)[0]
    return coefficients


def fit_steps(masks: Matrix, tracks: Matrix) -> Matrix:
    """[mask_j > threshold_j], centred, at the thresholds that explain most of the tracks."""

    def step(j: int, threshold: float) -> Matrix:
        above = (masks[:, j] > threshold).astype(float)
        centred: Matrix = above - above.mean()
        return centred

    width = masks.shape[1]
    steps = np.stack([step(j, 0.5) for j in range(width)], axis=1)
    for _ in range(SWEEPS):
        for j in range(width):
            columns = regress(steps, tracks)
            rest = tracks - steps @ columns + np.outer(steps[:, j], columns[j])
            tried = [step(j, threshold) for threshold in THRESHOLDS]
            explained = [((s @ rest) ** 2).sum() / max(s @ s, 1e-9) for s in tried]
            steps[:, j] = tried[int(np.argmax(explained))]
    return steps


def attack(asked: dict[str, Matrix], weight: Matrix) -> tuple[float, float]:
    """Share of coordinates whose position is right; correlation with W_out (out, in)."""
    seen = asked["seen"]
    order = np.argsort(seen, axis=1, kind="stable")
    tracks = np.take_along_axis(seen, order, 1)
    tracks = tracks - tracks.mean(0)
    steps = fit_steps(asked["values"] / (LOW + 1), tracks)
    columns = regress(steps, tracks)
    left = tracks - steps @ columns
    masks = asked["norm"] - asked["norm"].mean(0)
    together = (masks / masks.std(0)).T @ (left / np.maximum(left.std(0), 1e-12)) / len(left)
    guess = together.argmin(0)  # a larger mask rounds down
    true = np.take_along_axis(asked["index"], order, 1)[0]
    estimate = np.zeros_like(weight)
    estimate[guess] = -columns.T
    return float((guess == true).mean()), float(np.corrcoef(estimate.ravel(), weight.ravel())[0, 1])


def main() -> None:
    """Ask, attack and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3000, help="how often to ask (3000)")
    parser.add_argument("--width", type=int, default=64, help="the model's width (64)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    spec = TransformerSpec("small", "gpt2", 2, args.width, 4, 4 * args.width, 1000, 128)
    weight = synthetic_layer(spec, 0).out.weight.double().numpy()
    asked = ask(spec, args.repeats)
    for repeats in sorted({min(300, args.repeats), args.repeats}):
        positions, correlation = attack({k: v[:repeats] for k, v in asked.items()}, weight)
        print(
            f"{repeats} repeats: {100 * positions:.0f} % of the second norm's coordinates placed "
            f"(chance {100 / args.width:.1f} %), W_out estimated with correlation {correlation:.3f}"
        )


if __name__ == "__main__":
    main()
