"""Checkpoints against transformers, and ChatGLM against its published equations."""

import json
import math
import shutil
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from protocols.transformer.checkpoint import CheckpointError, check, load, spec_of
from protocols.transformer.plain_model import PlainModel
from protocols.transformer.spec import TransformerSpec
from tests.checkpoint_folders import configure, copied, rewrite

NEW = 32
PROMPT = [33, 5, 81, 85, 293, 12, 221]


# --- the same answers as transformers ------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_greedy_tokens_are_those_of_transformers(
    family: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(f"{family}_checkpoint")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    settings = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    out = model.generate(torch.tensor([PROMPT]), max_new_tokens=NEW, **settings)
    expected = out.sequences[0, len(PROMPT) :].tolist()
    tokens, logits = PlainModel(check(folder), load(folder)).greedy(PROMPT, NEW)
    assert tokens == expected
    assert len(expected) == NEW
    assert len(set(expected)) > 8  # a model that repeats itself would prove little
    assert float((logits - torch.cat(out.logits)).abs().max()) < 1e-3 * float(logits.std())


def test_bert_encodes_as_transformers_does(bert_checkpoint: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(bert_checkpoint)
    tokens = [2, 17, 40, 41, 3]
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).last_hidden_state[0]
    actual = PlainModel(check(bert_checkpoint), load(bert_checkpoint)).encode(tokens)
    assert float((actual - expected).abs().max()) < 1e-4


# --- ChatGLM by its equations --------------------------------------------------------------------


class ChatGLM:
    """The published model without a cache: a whole sequence in, the last token's logits out.

    Sequence first, per-head rows of q, k and v, and the mask and position ids as its code has them.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file  # noqa: PLC0415 - an optional extra

        self.t: dict[str, Tensor] = {
            k: v.double() for k, v in load_file(folder / "model.safetensors").items()
        }
        config = json.loads((folder / "config.json").read_text())
        self.heads, self.layers = config["num_attention_heads"], config["num_layers"]
        self.eps, self.bos = config["layernorm_epsilon"], config["bos_token_id"]
        self.gmask = config["gmask_token_id"]

    def logits(self, ids: list[int]) -> Tensor:
        context = ids.index(self.bos)
        position = [i if i < context else ids.index(self.gmask) for i in range(len(ids))]
        block = [max(0, i - context + 1) for i in range(len(ids))]
        hidden = torch.ones(len(ids), len(ids)).tril()
        hidden[:, :context] = 1
        x = self.t["transformer.word_embeddings.weight"][ids]
        for i in range(self.layers):
            x = self.block(f"transformer.layers.{i}", x, position, block, hidden < 0.5)
        return F.linear(self.norm("transformer.final_layernorm", x)[-1], self.t["lm_head.weight"])

    def block(
        self, at: str, x: Tensor, position: list[int], block: list[int], masked: Tensor
    ) -> Tensor:
        alpha = math.sqrt(2 * self.layers)
        a = self.norm(f"{at}.input_layernorm", x)
        h = a * alpha + self.attend(f"{at}.attention", a, position, block, masked)
        b = self.norm(f"{at}.post_attention_layernorm", h)
        inner = self.linear(f"{at}.mlp.dense_h_to_4h", b)
        tanh = torch.tanh(0.7978845608028654 * inner * (1.0 + 0.044715 * inner * inner))
        return b * alpha + self.linear(f"{at}.mlp.dense_4h_to_h", 0.5 * inner * (1.0 + tanh))

    def attend(
        self, at: str, a: Tensor, position: list[int], block: list[int], masked: Tensor
    ) -> Tensor:
        mixed = self.linear(f"{at}.query_key_value", a).view(len(a), self.heads, -1)
        merged = []
        for head in range(self.heads):
            q, k, v = mixed[:, head].chunk(3, dim=-1)
            q, k = (self.turned(rows, position, block) for rows in (q, k))
            scores = (q @ k.T / math.sqrt(q.shape[-1])).masked_fill(masked, -10000.0)
            merged.append(F.softmax(scores, dim=-1) @ v)
        return self.linear(f"{at}.dense", torch.cat(merged, dim=-1))

    def turned(self, rows: Tensor, position: list[int], block: list[int]) -> Tensor:
        first, second = rows.chunk(2, dim=-1)
        return torch.cat((self.turn(first, position), self.turn(second, block)), dim=-1)

    def turn(self, rows: Tensor, at: list[int]) -> Tensor:
        """Coordinates i and i + width/2 as one complex number, times e^(i·angle)."""
        width = rows.shape[-1]
        speed = 1.0 / 10000 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
        angle = torch.tensor(at, dtype=torch.float64)[:, None] * speed
        turned = torch.complex(*rows.chunk(2, dim=-1)) * torch.exp(1j * angle)
        return torch.cat((turned.real, turned.imag), dim=-1)

    def linear(self, at: str, x: Tensor) -> Tensor:
        return F.linear(x, self.t[f"{at}.weight"], self.t[f"{at}.bias"])

    def norm(self, at: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.t[f"{at}.weight"], self.t[f"{at}.bias"], self.eps)


def test_chatglm_generates_as_its_equations_say(chatglm_checkpoint: Path) -> None:
    published = ChatGLM(chatglm_checkpoint)
    prompt = [40, 50, 3, 99, 120, 7, 77, 297, 298]
    ids, expected = list(prompt), []
    for _ in range(NEW):
        expected.append(published.logits(ids))
        ids.append(int(expected[-1].argmax()))
    tokens, logits = PlainModel(check(chatglm_checkpoint), load(chatglm_checkpoint)).greedy(
        prompt, NEW
    )
    assert tokens == ids[len(prompt) :]
    assert len(set(tokens)) > 8
    assert float((logits - torch.stack(expected)).abs().max()) < 1e-9


# --- what folders may look like ------------------------------------------------------------------


def test_specs(gpt2_checkpoint: Path, llama_checkpoint: Path, chatglm_checkpoint: Path) -> None:
    assert spec_of(gpt2_checkpoint) == TransformerSpec(
        "small-gpt2", "gpt2", 3, 64, 4, 160, 300, 96, 1e-3
    )
    assert spec_of(llama_checkpoint) == TransformerSpec(
        "small-llama", "llama", 3, 64, 4, 160, 330, 96, 1e-3, n_kv_heads=2, rope_theta=500.0
    )
    assert spec_of(chatglm_checkpoint) == TransformerSpec(
        "small-chatglm", "glm", 3, 64, 4, 160, 300, 96, 1e-3
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_without_prefix_are_widened(
    dtype: torch.dtype, gpt2_checkpoint: Path, tmp_path: Path
) -> None:
    folder = copied(gpt2_checkpoint, tmp_path)
    rewrite(folder, lambda t: {k.removeprefix("transformer."): v.to(dtype) for k, v in t.items()})
    given, full = load(folder), load(gpt2_checkpoint)
    assert check(folder) == check(gpt2_checkpoint)
    for actual, expected in (
        (given.token_embedding, full.token_embedding),
        (given.layers[2].down.weight, full.layers[2].down.weight),
        (given.layers[1].attn_norm.gain, full.layers[1].attn_norm.gain),
    ):
        assert actual.dtype == torch.float32
        assert torch.equal(actual, expected.to(dtype).float())


def test_bert_as_published_has_a_prefix_and_old_names(
    bert_checkpoint: Path, tmp_path: Path
) -> None:
    def old(name: str) -> str:
        for new, was in (
            ("LayerNorm.weight", "LayerNorm.gamma"),
            ("LayerNorm.bias", "LayerNorm.beta"),
        ):
            name = name.replace(new, was)
        return f"bert.{name}"

    folder = copied(bert_checkpoint, tmp_path)
    rewrite(folder, lambda t: {old(k): v for k, v in t.items()} | {"cls.bias": torch.zeros(3)})
    tokens = [2, 9, 8, 3]
    runs = [PlainModel(check(f), load(f)).encode(tokens) for f in (folder, bert_checkpoint)]
    assert torch.equal(runs[0], runs[1])


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_heads_follow_tie_word_embeddings(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = copied(request.getfixturevalue(f"{family}_checkpoint"), tmp_path)
    configure(folder, tie_word_embeddings=True)
    model = load(folder)
    embedding, head = model.token_embedding, model.head
    assert head is not None
    assert head.weight is embedding
    configure(folder, tie_word_embeddings=False)
    if family == "gpt2":
        with pytest.raises(CheckpointError, match=r"lm_head\.weight is missing"):
            check(folder)
    else:
        own = load(folder).head
        assert own is not None
        assert not torch.equal(own.weight, embedding)


def test_older_configs_name_the_rotation_base_themselves(
    llama_checkpoint: Path, tmp_path: Path
) -> None:
    folder = copied(llama_checkpoint, tmp_path)
    configure(folder, rope_parameters=None, rope_scaling=None, rope_theta=1e6)
    assert spec_of(folder).rope_theta == 1e6
    configure(folder, rope_theta=None)
    assert spec_of(folder).rope_theta == 10000.0


def test_check_reads_headers_alone(llama_checkpoint: Path, tmp_path: Path) -> None:
    """A file as large as LLaMA-2 7B's, of which nothing but the header is on the disk."""
    folder = tmp_path / "large"
    folder.mkdir()
    shutil.copy(llama_checkpoint / "config.json", folder)
    d, inner, vocab = 4096, 11008, 32000
    configure(folder, hidden_size=d, intermediate_size=inner, vocab_size=vocab, head_dim=128)
    configure(folder, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32)
    shapes = {"embed_tokens": (vocab, d), "norm": (d,)}
    for i in range(32):
        for name in ("q", "k", "v", "o"):
            shapes[f"layers.{i}.self_attn.{name}_proj"] = (d, d)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"layers.{i}.{name}"] = (d,)
        for name, shape in {"gate": (inner, d), "up": (inner, d), "down": (d, inner)}.items():
            shapes[f"layers.{i}.mlp.{name}_proj"] = shape
    named = {f"model.{name}.weight": shape for name, shape in shapes.items()}
    write_hollow(folder / "model.safetensors", named | {"lm_head.weight": (vocab, d)})
    spec = check(folder)
    assert (spec.n_layers, spec.d_model, spec.d_ff) == (32, d, inner)
    assert float(load(folder).layers[31].attn_norm.gain.sum()) == 0.0


def write_hollow(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file of float16 zeros that occupies no blocks."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
