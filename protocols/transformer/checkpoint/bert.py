"""BERT's encoder in transformers' names. Pooler and heads are left out."""

import torch

from protocols.transformer.checkpoint.config import Config
from protocols.transformer.checkpoint.parts import read_linear, read_norm
from protocols.transformer.checkpoint.tensors import Read
from protocols.transformer.model import LazyLayers, ModelWeights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear

PREFIX = "bert."


def spec_of(config: Config, name: str) -> TransformerSpec:
    """See `load.spec_of`."""
    config.require("hidden_act", "gelu")
    config.require("position_embedding_type", "absolute")
    config.require("is_decoder", False)
    d, heads = config.size("hidden_size"), config.size("num_attention_heads")
    config.require_multiple("hidden_size", "num_attention_heads", d, heads)
    return TransformerSpec(
        name=name,
        family="bert",
        n_layers=config.size("num_hidden_layers"),
        d_model=d,
        n_heads=heads,
        d_ff=config.size("intermediate_size"),
        vocab=config.size("vocab_size"),
        max_positions=config.size("max_position_embeddings"),
        norm_eps=config.number("layer_norm_eps", 1e-12),
    )


def weights_of(config: Config, spec: TransformerSpec, read: Read) -> ModelWeights:
    """See `load.load`. All tokens are of type 0, whose row joins the positions."""
    d, types = spec.d_model, config.size("type_vocab_size", 2)
    type_0 = read("embeddings.token_type_embeddings.weight", types, d)[0]
    places = read("embeddings.position_embeddings.weight", spec.max_positions, d)
    return ModelWeights(
        layers=LazyLayers(lambda i: _layer(spec, read, f"encoder.layer.{i}"), range(spec.n_layers)),
        position_embedding=places + type_0,
        embedding_norm=read_norm(spec, read, "embeddings.LayerNorm"),
        final_norm=None,
        load_embedding=lambda: read("embeddings.word_embeddings.weight", spec.vocab, d),
        load_head=lambda: None,
    )


def _layer(spec: TransformerSpec, read: Read, at: str) -> LayerWeights:
    d, inner = spec.d_model, spec.d_ff
    qkv = [read_linear(read, f"{at}.attention.self.{x}", d, d) for x in ("query", "key", "value")]
    biases = [linear.bias for linear in qkv if linear.bias is not None]
    return LayerWeights(
        attn_norm=read_norm(spec, read, f"{at}.attention.output.LayerNorm"),
        qkv=Linear(torch.cat([linear.weight for linear in qkv]), torch.cat(biases)),
        out=read_linear(read, f"{at}.attention.output.dense", d, d),
        ffn_norm=read_norm(spec, read, f"{at}.output.LayerNorm"),
        up=read_linear(read, f"{at}.intermediate.dense", inner, d),
        down=read_linear(read, f"{at}.output.dense", d, inner),
    )
