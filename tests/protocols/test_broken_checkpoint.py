"""Folders that are no checkpoint of ours end in one line that names the file and the problem."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from protocols.transformer.checkpoint import CheckpointError, check, load
from tests.checkpoint_folders import configure, copied, rewrite


def drop(name: str) -> Callable[[Path], None]:
    return lambda f: rewrite(f, lambda t: {k: v for k, v in t.items() if k != name})


def put(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    return lambda f: rewrite(f, lambda t: t | {name: change(t[name])})


def unlink(name: str) -> Callable[[Path], None]:
    return lambda f: (f / name).unlink()


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda f: (f / name).write_text(text)


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda f: configure(f, **changes)


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def leave_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


INDEX = "model.safetensors.index.json"
BROKEN: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("gpt2", shutil.rmtree, "", "no such folder"),
    ("gpt2", unlink("config.json"), "config.json", "no such file"),
    ("gpt2", write("config.json", "{"), "config.json", "cannot be read as JSON: Expecting"),
    ("gpt2", write("config.json", "[]"), "config.json", "cannot be read as JSON: not an object"),
    (
        "gpt2",
        config(model_type="gpt_neox"),
        "config.json",
        "model_type is 'gpt_neox', supported: gpt2, llama, bert, chatglm",
    ),
    ("gpt2", config(model_type=None), "config.json", "model_type is None, supported: gpt2"),
    (
        "gpt2",
        config(activation_function="relu"),
        "config.json",
        'activation_function is "relu", supported: "gelu_new" or "gelu_pytorch_tanh"',
    ),
    (
        "gpt2",
        config(scale_attn_by_inverse_layer_idx=True),
        "config.json",
        "scale_attn_by_inverse_layer_idx is true, supported: false",
    ),
    ("gpt2", config(n_head=5), "config.json", "n_embd is 64, expected a multiple of n_head = 5"),
    ("gpt2", config(n_layer="3"), "config.json", 'n_layer is "3", expected a positive integer'),
    (
        "gpt2",
        config(quantization_config={"bits": 4}),
        "config.json",
        "quantization_config is set, supported: unquantized weights alone",
    ),
    (
        "llama",
        config(rope_parameters={"rope_type": "llama3", "factor": 8.0}),
        "config.json",
        'rope_type is "llama3", supported: "default"',
    ),
    (
        "llama",
        config(rope_parameters=None, rope_scaling={"type": "linear", "factor": 2.0}),
        "config.json",
        'type is "linear", supported: "default"',
    ),
    (
        "llama",
        config(attention_bias=True),
        "config.json",
        "attention_bias is true, supported: false",
    ),
    ("llama", config(head_dim=32), "config.json", "head_dim is 32, supported: 16"),
    (
        "bert",
        config(position_embedding_type="relative_key"),
        "config.json",
        'position_embedding_type is "relative_key", supported: "absolute"',
    ),
    ("bert", config(hidden_act="relu"), "config.json", 'hidden_act is "relu", supported: "gelu"'),
    (
        "chatglm",
        config(multi_query_attention=True),
        "config.json",
        "multi_query_attention belongs to ChatGLM2 or later, supported: ChatGLM-6B alone",
    ),
    (
        "chatglm",
        config(position_encoding_2d=False),
        "config.json",
        "position_encoding_2d is false, supported: true",
    ),
    ("chatglm", config(quantization_bit=4), "config.json", "quantization_bit is 4, supported: 0"),
    ("gpt2", unlink("model.safetensors"), "", f"has neither model.safetensors nor {INDEX}"),
    ("gpt2", leave_a_pickle, "", "(pytorch_model.bin is a pickle, which is not read: convert it)"),
    ("gpt2", cut, "model.safetensors", "cannot be read as safetensors: "),
    (
        "gpt2",
        drop("transformer.h.1.mlp.c_fc.bias"),
        "model.safetensors",
        "tensor transformer.h.1.mlp.c_fc.bias is missing, expected shape (160,)",
    ),
    (
        "gpt2",
        config(n_layer=4),
        "model.safetensors",
        "tensor transformer.h.3.ln_1.bias is missing, expected shape (64,)",
    ),
    (
        "gpt2",
        put("transformer.h.2.attn.c_attn.weight", torch.t),
        "model.safetensors",
        "tensor transformer.h.2.attn.c_attn.weight has shape (192, 64), expected (64, 192)"
        " by config.json",
    ),
    (
        "bert",
        put("encoder.layer.0.output.dense.weight", lambda t: t.to(torch.int8)),
        "model.safetensors",
        "tensor encoder.layer.0.output.dense.weight has dtype I8,"
        " expected one of float16, bfloat16, float32",
    ),
    (
        "chatglm",
        drop("lm_head.weight"),
        "model.safetensors",
        "tensor lm_head.weight is missing, expected shape (300, 64)",
    ),
    ("llama", write(INDEX, "{}"), INDEX, "expected a weight_map from tensors to files"),
    (
        "llama",
        write(INDEX, '{"weight_map": {"a": "../a.safetensors"}}'),
        "../a.safetensors",
        "no such file",
    ),
]


@pytest.mark.parametrize(("family", "spoil", "file", "problem"), BROKEN)
def test_broken_folders_end_in_one_line(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    *,
    family: str,
    spoil: Callable[[Path], object],
    file: str,
    problem: str,
) -> None:
    folder = copied(request.getfixturevalue(f"{family}_checkpoint"), tmp_path)
    assert check(folder).n_layers == 3
    spoil(folder)
    for entry in (check, load):
        assert_one_line(entry, folder, file, problem)


def assert_one_line(entry: Callable[[Path], object], folder: Path, file: str, problem: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        entry(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder / file}: ")
    assert problem in message
    assert "\n" not in message


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_weights_that_are_no_numbers_are_refused_at_load(
    value: float, gpt2_checkpoint: Path, tmp_path: Path
) -> None:
    folder, name = copied(gpt2_checkpoint, tmp_path), "transformer.h.1.mlp.c_proj.weight"

    def spoil(tensor: Tensor) -> Tensor:
        tensor[3, 2:4] = value
        return tensor

    put(name, spoil)(folder)
    check(folder)
    told = f"{name} has 2 values that are NaN or infinite"
    with pytest.raises(CheckpointError, match=re.escape(told)):
        list(load(folder).layers)


def test_the_shard_that_lacks_a_tensor_is_named(llama_checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - an optional extra

    folder, name = copied(llama_checkpoint, tmp_path), "model.layers.1.mlp.down_proj.weight"
    shard = json.loads((folder / INDEX).read_text())["weight_map"][name]
    tensors = load_file(folder / shard)
    save_file({k: v for k, v in tensors.items() if k != name}, folder / shard)
    assert_one_line(check, folder, shard, f"tensor {name} is missing, expected shape (64, 160)")
    (folder / shard).unlink()
    assert_one_line(check, folder, shard, f"no such file, but {INDEX} names it")


def test_without_safetensors_the_extra_is_named(
    gpt2_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(CheckpointError, match=r"pip install 'permbench\[hf\]'"):
        check(gpt2_checkpoint)
