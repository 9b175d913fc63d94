"""LLaMA in transformers' names; q and k rows are already in half-split order there."""

import torch

from protocols.transformer.checkpoint.config import Config
from protocols.transformer.checkpoint.parts import read_norm
from protocols.transformer.checkpoint.tensors import Read
from protocols.transformer.model import LazyLayers, ModelWeights, held
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear

PREFIX = "model."


def spec_of(config: Config, name: str) -> TransformerSpec:
    """See `load.spec_of`."""
    config.require("hidden_act", "silu", "swish")
    config.require("attention_bias", False)
    config.require("mlp_bias", False)
    d, heads = config.size("hidden_size"), config.size("num_attention_heads")
    kv_heads = config.size("num_key_value_heads", heads)
    config.require_multiple("hidden_size", "2·num_attention_heads", d, 2 * heads)
    config.require_multiple("num_attention_heads", "num_key_value_heads", heads, kv_heads)
    config.require("head_dim", d // heads)
    return TransformerSpec(
        name=name,
        family="llama",
        n_layers=config.size("num_hidden_layers"),
        d_model=d,
        n_heads=heads,
        d_ff=config.size("intermediate_size"),
        vocab=config.size("vocab_size"),
        max_positions=config.size("max_position_embeddings", 2048),
        norm_eps=config.number("rms_norm_eps", 1e-6),
        n_kv_heads=None if kv_heads == heads else kv_heads,
        rope_theta=_rope_theta(config),
    )


def weights_of(config: Config, spec: TransformerSpec, read: Read) -> ModelWeights:
    """See `load.load`."""
    table = (spec.vocab, spec.d_model)
    embedding = held(lambda: read("embed_tokens.weight", *table))

    def head() -> Linear:
        tied = config.get("tie_word_embeddings", False)
        return Linear(embedding() if tied else read("lm_head.weight", *table), None)

    return ModelWeights(
        layers=LazyLayers(lambda i: _layer(spec, read, f"layers.{i}"), range(spec.n_layers)),
        position_embedding=None,
        embedding_norm=None,
        final_norm=read_norm(spec, read, "norm"),
        load_embedding=embedding,
        load_head=head,
    )


def _rope_theta(config: Config) -> float:
    """The base of the rotation; CheckpointError for every kind of stretched position.

    transformers 5 writes `rope_parameters`, older ones `rope_theta` and `rope_scaling`.
    """
    new, old = (config.section(key) for key in ("rope_parameters", "rope_scaling"))
    for rope in (new, old):
        rope.require("rope_type", "default")
        rope.require("type", "default")
    new.require("partial_rotary_factor", 1.0)
    return new.number("rope_theta", config.number("rope_theta", 10000.0))


def _layer(spec: TransformerSpec, read: Read, at: str) -> LayerWeights:
    d, inner = spec.d_model, spec.d_ff
    attention = {"q": d, "k": spec.d_kv, "v": spec.d_kv}
    qkv = [read(f"{at}.self_attn.{x}_proj.weight", rows, d) for x, rows in attention.items()]
    up = [read(f"{at}.mlp.{x}_proj.weight", inner, d) for x in ("gate", "up")]
    return LayerWeights(
        attn_norm=read_norm(spec, read, f"{at}.input_layernorm"),
        qkv=Linear(torch.cat(qkv), None),
        out=Linear(read(f"{at}.self_attn.o_proj.weight", d, d), None),
        ffn_norm=read_norm(spec, read, f"{at}.post_attention_layernorm"),
        up=Linear(torch.cat(up), None),
        down=Linear(read(f"{at}.mlp.down_proj.weight", d, inner), None),
    )
