"""GPT-2 in transformers' names. Its Conv1D stores weights as (in, out)."""

from torch import Tensor

from protocols.transformer.checkpoint.config import Config
from protocols.transformer.checkpoint.parts import read_norm
from protocols.transformer.checkpoint.tensors import Read
from protocols.transformer.model import LazyLayers, ModelWeights, held
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear

PREFIX = "transformer."


def spec_of(config: Config, name: str) -> TransformerSpec:
    """See `load.spec_of`."""
    config.require("activation_function", "gelu_new", "gelu_pytorch_tanh")
    config.require("scale_attn_weights", True)
    config.require("scale_attn_by_inverse_layer_idx", False)
    config.require("add_cross_attention", False)
    d, heads = config.size("n_embd"), config.size("n_head")
    config.require_multiple("n_embd", "n_head", d, heads)
    return TransformerSpec(
        name=name,
        family="gpt2",
        n_layers=config.size("n_layer"),
        d_model=d,
        n_heads=heads,
        d_ff=config.size("n_inner", 4 * d),
        vocab=config.size("vocab_size"),
        max_positions=config.size("n_positions"),
        norm_eps=config.number("layer_norm_epsilon", 1e-5),
    )


def weights_of(config: Config, spec: TransformerSpec, read: Read) -> ModelWeights:
    """See `load.load`."""
    table = (spec.vocab, spec.d_model)
    embedding = held(lambda: read("wte.weight", *table))

    def head() -> Linear:
        tied = config.get("tie_word_embeddings", True)
        return Linear(embedding() if tied else read("lm_head.weight", *table), None)

    return ModelWeights(
        layers=LazyLayers(lambda i: _layer(spec, read, f"h.{i}"), range(spec.n_layers)),
        position_embedding=read("wpe.weight", spec.max_positions, spec.d_model),
        embedding_norm=None,
        final_norm=read_norm(spec, read, "ln_f"),
        load_embedding=embedding,
        load_head=head,
    )


def _layer(spec: TransformerSpec, read: Read, at: str) -> LayerWeights:
    d, inner = spec.d_model, spec.d_ff
    return LayerWeights(
        attn_norm=read_norm(spec, read, f"{at}.ln_1"),
        qkv=_conv(read, f"{at}.attn.c_attn", d, 3 * d),
        out=_conv(read, f"{at}.attn.c_proj", d, d),
        ffn_norm=read_norm(spec, read, f"{at}.ln_2"),
        up=_conv(read, f"{at}.mlp.c_fc", d, inner),
        down=_conv(read, f"{at}.mlp.c_proj", inner, d),
    )


def _conv(read: Read, at: str, columns: int, rows: int) -> Linear:
    weight: Tensor = read(f"{at}.weight", columns, rows).T.contiguous()
    return Linear(weight, read(f"{at}.bias", rows))
