"""ChatGLM-6B in the names of its published `modeling_chatglm.py`.

Its `query_key_value` holds q, k and v of head 0, then those of head 1, …
"""

from torch import Tensor

from protocols.transformer.checkpoint.config import Config
from protocols.transformer.checkpoint.parts import read_linear, read_norm
from protocols.transformer.checkpoint.tensors import Read
from protocols.transformer.model import LazyLayers, ModelWeights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear

PREFIX = "transformer."
_LATER = ("padded_vocab_size", "ffn_hidden_size", "multi_query_attention", "rmsnorm")


def spec_of(config: Config, name: str) -> TransformerSpec:
    """See `load.spec_of`."""
    for key in _LATER:
        if key in config.values:
            raise config.error(f"{key} belongs to ChatGLM2 or later, supported: ChatGLM-6B alone")
    config.require("position_encoding_2d", True)
    config.require("quantization_bit", 0)
    if config.get("pre_seq_len") is not None:
        raise config.error("pre_seq_len asks for a prefix encoder, which is not supported")
    d, heads = config.size("hidden_size"), config.size("num_attention_heads")
    config.require_multiple("hidden_size", "4·num_attention_heads", d, 4 * heads)
    return TransformerSpec(
        name=name,
        family="glm",
        n_layers=config.size("num_layers"),
        d_model=d,
        n_heads=heads,
        d_ff=config.size("inner_hidden_size", 4 * d),
        vocab=config.size("vocab_size"),
        max_positions=config.size("max_sequence_length", 2048),
        norm_eps=config.number("layernorm_epsilon", 1e-5),
    )


def weights_of(config: Config, spec: TransformerSpec, read: Read) -> ModelWeights:
    """See `load.load`."""
    table = (spec.vocab, spec.d_model)
    return ModelWeights(
        layers=LazyLayers(lambda i: _layer(spec, read, f"layers.{i}"), range(spec.n_layers)),
        position_embedding=None,
        embedding_norm=None,
        final_norm=read_norm(spec, read, "final_layernorm"),
        load_embedding=lambda: read("word_embeddings.weight", *table),
        load_head=lambda: Linear(read("lm_head.weight", *table), None),
    )


def _layer(spec: TransformerSpec, read: Read, at: str) -> LayerWeights:
    d, inner = spec.d_model, spec.d_ff
    return LayerWeights(
        attn_norm=read_norm(spec, read, f"{at}.input_layernorm"),
        qkv=_heads_last(spec, read_linear(read, f"{at}.attention.query_key_value", 3 * d, d)),
        out=read_linear(read, f"{at}.attention.dense", d, d),
        ffn_norm=read_norm(spec, read, f"{at}.post_attention_layernorm"),
        up=read_linear(read, f"{at}.mlp.dense_h_to_4h", inner, d),
        down=read_linear(read, f"{at}.mlp.dense_4h_to_h", d, inner),
    )


def _heads_last(spec: TransformerSpec, qkv: Linear) -> Linear:
    """Rows (head, q k v, coordinate) to (q k v, head, coordinate)."""

    def move(rows: Tensor) -> Tensor:
        by_head = rows.reshape(spec.n_heads, 3, spec.d_head, -1)
        return by_head.transpose(0, 1).reshape(rows.shape)

    return Linear(move(qkv.weight), None if qkv.bias is None else move(qkv.bias))
