"""What PermLLM says its roles take, against the material that they really keep."""

import gc
import weakref
from dataclasses import fields, is_dataclass, replace
from typing import Any
from unittest.mock import patch

import pytest
from torch import Tensor

from protocols.in_process_party import MemoryParty, run_parties
from protocols.party import P0, P1, ROLES, Role
from protocols.permllm import attention_tiles, layer
from protocols.permllm.memory_needs import KEPT
from protocols.permllm.offline_batches import slot_bytes, step_bytes
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.system import PermLLM
from protocols.workload import Generation, Layer
from tests.play import SEED, small

PAPER = PermLLMOptions(selection="ot", offline_batch=1)
FULL = replace(PAPER, variant="fused")


def size(piece: Any) -> int:
    """Bytes of all tensors in it."""
    if isinstance(piece, Tensor):
        return piece.nbytes
    if is_dataclass(piece):
        return sum(size(getattr(piece, field.name)) for field in fields(piece))
    return sum(map(size, piece)) if isinstance(piece, list | tuple) else 0


def kept(work: Layer | Generation, options: PermLLMOptions, step: int) -> dict[Role, int]:
    """Bytes that each role keeps for `step` once it is dealt."""

    def walk(party: MemoryParty) -> int:
        role = PermLLM(party, work, SEED, options)
        with party.phase("prepare"):
            role.prepare()
        for dealt in range(step + 1):
            with party.phase("offline"):
                role.offline(dealt)
        pieces = role._ctx.ledger._kept
        return sum(size(piece) for (at, _), piece in pieces.items() if at == step)

    return run_parties(dict.fromkeys(ROLES, walk))


@pytest.mark.parametrize("family", ["gpt2", "llama", "glm", "bert"])
@pytest.mark.parametrize("scores", [1 << 21, 1000])
def test_material_of_a_prompt_is_what_is_declared(
    family: Any, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long one, in one tile or in several: P0 keeps no more than is declared, and not much less;
    the others no more than their parts of it."""
    monkeypatch.setattr(attention_tiles, "TILE_SCORES", scores)
    work = Generation(small(family), 50, 0 if family == "bert" else 1)
    declared, found = step_bytes(work.spec, 50, 50), kept(work, PAPER, 0)
    assert 0.8 * declared <= found[P0] <= declared
    ends = 4 * 50 * work.spec.vocab  # the one-hots' masks
    assert all(found[role] <= KEPT[role] * declared + ends for role in ROLES)


def test_material_of_slots_is_what_is_declared() -> None:
    work = Generation(small("gpt2"), 50, 2)
    declared = step_bytes(work.spec, 51) + slot_bytes(work.spec, 51, FULL)
    found = kept(work, FULL, 1)
    assert 0.7 * declared <= found[P0] <= declared
    assert found[P1] <= declared


def test_of_distinct_layers_no_matrix_stays_in_floats() -> None:
    """They are twice what the integers are: a large model would not fit."""
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []
    quantized, prepare = layer._quantized, layer.LayerLinears.prepare

    def noted(*args: Any) -> Any:
        weights = args[2]
        made.extend(weakref.ref(linear.weight) for linear in (weights.qkv, weights.up))
        return quantized(*args)

    def counted(self: layer.LayerLinears) -> None:
        gc.collect()
        alive.append(sum(one() is not None for one in made))
        prepare(self)

    with (
        patch.object(layer, "_quantized", noted),
        patch.object(layer.LayerLinears, "prepare", counted),
    ):
        kept(Generation(small("glm"), 4, 2), PAPER, 0)
    assert len(made) == 4
    assert max(alive) == 0
