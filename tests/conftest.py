"""Small checkpoints, made by transformers itself, each with a tokenizer trained on the spot."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on.",
    "A party that holds the model learns nothing about the prompt.",
    "Le garçon naïf a mangé une crêpe à Genève. 你好，世界。 🙂🚀",
]
WIDTH, HEADS, INNER, LAYERS, POSITIONS = 64, 4, 160, 3, 96
NEEDS = "the extra hf is not installed"


def pytest_addoption(parser: pytest.Parser) -> None:
    """See tests/faults/test_campaign.py."""
    parser.addoption("--campaign", type=int, default=0, metavar="N", help="some N cases of faults")


def spread(model: Any, seed: int) -> None:
    """Random weights, biases and gains, large enough for greedy tokens to vary."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
            if parameter.dim() == 1 and name.endswith("weight"):
                parameter.add_(1.0)


def save_tokenizer(folder: Path, core: Any, **special: str) -> int:
    """Save a tokenizer as transformers does; the size of its vocabulary."""
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - an optional extra

    wrap: Any = PreTrainedTokenizerFast
    wrap(tokenizer_object=core, **special).save_pretrained(folder)
    return int(core.get_vocab_size())


def gpt2_tokenizer(folder: Path) -> int:
    """Byte-level BPE: any text, no special tokens around it."""
    import tokenizers as tk  # noqa: PLC0415

    core = tk.Tokenizer(tk.models.BPE())
    core.pre_tokenizer = tk.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tk.decoders.ByteLevel()
    trainer = tk.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tk.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(SENTENCES, trainer)
    return save_tokenizer(folder, core, eos_token="<|endoftext|>")


def llama_tokenizer(folder: Path) -> int:
    """BPE with ▁ for spaces, single bytes for characters outside its alphabet, and <s> in front."""
    import tokenizers as tk  # noqa: PLC0415

    core = tk.Tokenizer(tk.models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.pre_tokenizer = tk.pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = tk.trainers.BpeTrainer(
        vocab_size=330, special_tokens=special + byte_tokens, limit_alphabet=40, show_progress=False
    )
    core.train_from_iterator(SENTENCES, trainer)
    state = json.loads(core.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in special]
    core = tk.Tokenizer.from_str(json.dumps(state))
    parts = tk.decoders
    spaces, strip = parts.Replace("▁", " "), parts.Strip(" ", 1, 0)
    core.decoder = parts.Sequence([spaces, parts.ByteFallback(), parts.Fuse(), strip])
    core.post_processor = tk.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return save_tokenizer(folder, core, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def bert_tokenizer(folder: Path) -> int:
    """Word pieces between [CLS] and [SEP]."""
    import tokenizers as tk  # noqa: PLC0415

    core = tk.Tokenizer(tk.models.WordPiece(unk_token="[UNK]"))
    core.normalizer = tk.normalizers.BertNormalizer()
    core.pre_tokenizer = tk.pre_tokenizers.BertPreTokenizer()
    core.decoder = tk.decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = tk.trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=special, show_progress=False
    )
    core.train_from_iterator(SENTENCES, trainer)
    core.post_processor = tk.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return save_tokenizer(folder, core, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


@pytest.fixture(scope="session")
def gpt2_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file, tied head, names with prefix; byte-level tokens."""
    transformers = pytest.importorskip("transformers", reason=NEEDS)
    folder = tmp_path_factory.mktemp("small-gpt2", numbered=False)
    config = transformers.GPT2Config(
        vocab_size=gpt2_tokenizer(folder),
        n_positions=POSITIONS,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_inner=INNER,
        layer_norm_epsilon=1e-3,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config)
    spread(model, 12)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards, a head of its own, two queries to a key head; word pieces with a byte fallback."""
    transformers = pytest.importorskip("transformers", reason=NEEDS)
    folder = tmp_path_factory.mktemp("small-llama", numbered=False)
    config = transformers.LlamaConfig(
        vocab_size=llama_tokenizer(folder),
        max_position_embeddings=POSITIONS,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        intermediate_size=INNER,
        rms_norm_eps=1e-3,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        bos_token_id=1,
        eos_token_id=2,
    )
    model = transformers.LlamaForCausalLM(config)
    spread(model, 1)
    model.save_pretrained(folder, max_shard_size="200KB")
    return folder


@pytest.fixture(scope="session")
def bert_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder alone, names without prefix."""
    transformers = pytest.importorskip("transformers", reason=NEEDS)
    folder = tmp_path_factory.mktemp("small-bert", numbered=False)
    config = transformers.BertConfig(
        vocab_size=bert_tokenizer(folder),
        max_position_embeddings=POSITIONS,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        layer_norm_eps=1e-3,
    )
    model = transformers.BertModel(config)
    spread(model, 3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def chatglm_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ChatGLM-6B's names and layout; its tokens [gMASK], <sop>, <eop> are 297, 298, 299."""
    torch_files = pytest.importorskip("safetensors.torch", reason=NEEDS)
    folder = tmp_path_factory.mktemp("small-chatglm", numbered=False)
    config = {
        "model_type": "chatglm",
        "vocab_size": 300,
        "max_sequence_length": POSITIONS,
        "hidden_size": WIDTH,
        "num_layers": LAYERS,
        "num_attention_heads": HEADS,
        "inner_hidden_size": INNER,
        "layernorm_epsilon": 1e-3,
        "position_encoding_2d": True,
        "gmask_token_id": 297,
        "bos_token_id": 298,
        "eos_token_id": 299,
    }
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, shape in chatglm_shapes():
        drawn = torch.randn(shape, generator=generator) * (0.2 if len(shape) == 2 else 0.05)
        tensors[name] = drawn + name.endswith("norm.weight")
    torch_files.save_file(tensors, folder / "model.safetensors")
    return folder


def chatglm_shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names and shapes of the small ChatGLM's tensors."""
    yield from (
        ("transformer.word_embeddings.weight", (300, WIDTH)),
        ("lm_head.weight", (300, WIDTH)),
    )
    linears = {
        "attention.query_key_value": (3 * WIDTH, WIDTH),
        "attention.dense": (WIDTH, WIDTH),
        "mlp.dense_h_to_4h": (INNER, WIDTH),
        "mlp.dense_4h_to_h": (WIDTH, INNER),
    }
    norms = ["final_layernorm"]
    for layer in range(LAYERS):
        at = f"layers.{layer}"
        norms += [f"{at}.input_layernorm", f"{at}.post_attention_layernorm"]
        for name, shape in linears.items():
            yield f"transformer.{at}.{name}.weight", shape
            yield f"transformer.{at}.{name}.bias", shape[:1]
    for name in norms:
        yield f"transformer.{name}.weight", (WIDTH,)
        yield f"transformer.{name}.bias", (WIDTH,)
