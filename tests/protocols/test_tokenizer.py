"""Tokenizers from a folder: round trips, text that arrives token by token, and what goes wrong."""

import json
import random
import shutil
import sys
from pathlib import Path

import pytest

from protocols.errors import TokenizerError
from protocols.transformer.checkpoint.tokenizer import Tokenizer, load_tokenizer

TEXTS = [
    "The dog, naïve as ever.",
    "你好，世界。 🙂🚀 fin",
    "two  spaces,   three\n\tand a tab",
    "",
]


@pytest.fixture(scope="session")
def glm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentencepiece model with the special pieces of ChatGLM-6B's ice_text.model."""
    pieces = pytest.importorskip("sentencepiece", reason="the extra hf is not installed")
    folder = tmp_path_factory.mktemp("glm-tokenizer")
    own = ["<n>", "<|tab|>", *(f"<|blank_{n}|>" for n in range(2, 81))]
    pieces.SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown fox jumps over the lazy dog"] * 20),
        model_prefix=str(folder / "ice_text"),
        vocab_size=430,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        user_defined_symbols=own,
        control_symbols=["[MASK]", "[gMASK]", "<sop>", "<eop>"],
        minloglevel=2,
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"num_image_tokens": 7}))
    return folder


def load(family: str, request: pytest.FixtureRequest) -> Tokenizer:
    name = "glm_folder" if family == "glm" else f"{family}_checkpoint"
    return load_tokenizer(request.getfixturevalue(name))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("family", ["gpt2", "llama", "glm"])
def test_text_survives_whole_and_streamed(
    family: str, text: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = load(family, request)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert stream.finish() == ""


def test_a_character_appears_with_its_last_byte(gpt2_checkpoint: Path) -> None:
    tokenizer = load_tokenizer(gpt2_checkpoint)
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in tokenizer.encode("a𐍈b")]
    assert [piece for piece in pieces if piece] == ["a", "𐍈", "b"]
    assert pieces[1:-2] == [""] * len(pieces[1:-2])


def test_words_are_not_held_back(gpt2_checkpoint: Path) -> None:
    tokenizer = load_tokenizer(gpt2_checkpoint)
    ids, stream = tokenizer.encode("The dog sleeps on."), tokenizer.stream()
    assert all(stream.push(token) for token in ids)


def test_any_tokens_stream_to_their_text(gpt2_checkpoint: Path) -> None:
    """What a model emits need not be valid UTF-8."""
    tokenizer, chosen = load_tokenizer(gpt2_checkpoint), random.Random(1)
    for _ in range(50):
        ids = [chosen.randrange(300) for _ in range(40)]
        stream = tokenizer.stream()
        text = "".join([*(stream.push(token) for token in ids), stream.finish()])
        assert text == tokenizer.decode(ids)


def test_a_special_token_inside_costs_no_space(llama_checkpoint: Path) -> None:
    tokenizer = load_tokenizer(llama_checkpoint)
    ids = [*tokenizer.encode("the lazy")[1:], 2, *tokenizer.encode("dog sleeps")[1:]]
    stream = tokenizer.stream()
    assert "".join(stream.push(token) for token in ids) == tokenizer.decode(ids)
    assert tokenizer.decode(ids) == "the lazy dog sleeps"


def test_special_tokens(
    llama_checkpoint: Path, bert_checkpoint: Path, glm_folder: Path, gpt2_checkpoint: Path
) -> None:
    assert load_tokenizer(llama_checkpoint).encode("dog")[0] == 1
    bert = load_tokenizer(bert_checkpoint).encode("dog")
    assert (bert[0], bert[-1]) == (2, 3)
    glm = load_tokenizer(glm_folder)
    assert glm.encode("dog")[-2:] == glm.encode("")[-2:] == [7 + 4, 7 + 5]
    assert glm.eos_ids == {7 + 6}
    assert 0 not in load_tokenizer(gpt2_checkpoint).encode("dog")


def test_eos_is_that_of_generate(llama_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama_checkpoint, tmp_path / "copy"))
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 7]}')
    assert load_tokenizer(folder).eos_ids == {2, 7}
    (folder / "generation_config.json").unlink()
    (folder / "config.json").write_text('{"model_type": "llama", "eos_token_id": 9}')
    assert load_tokenizer(folder).eos_ids == {9}
    (folder / "config.json").write_text('{"model_type": "llama"}')
    assert load_tokenizer(folder).eos_ids == {2}


def test_what_goes_wrong_is_told_in_one_line(
    gpt2_checkpoint: Path, glm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def assert_refused(folder: Path, problem: str) -> None:
        with pytest.raises(TokenizerError) as caught:
            load_tokenizer(folder)
        message = str(caught.value)
        assert message.startswith(str(folder))
        assert problem in message
        assert "\n" not in message

    assert_refused(tmp_path, "has no tokenizer: none of tokenizer.json")
    broken = Path(shutil.copytree(gpt2_checkpoint, tmp_path / "broken"))
    (broken / "generation_config.json").write_text("{")
    assert_refused(broken, "generation_config.json: cannot be read as JSON")
    (broken / "generation_config.json").unlink()
    (broken / "tokenizer.json").write_text("{")
    assert_refused(broken, "tokenizer.json: cannot be read as JSON")
    (broken / "tokenizer.json").write_text("{}")
    assert_refused(broken, "tokenizer cannot be loaded: ")
    (broken / "ice_text.model").write_bytes(b"none")
    assert_refused(broken, "tokenizer cannot be loaded: ")
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    assert_refused(gpt2_checkpoint, "transformers: pip install 'permbench[hf]'")
    assert_refused(glm_folder, "sentencepiece: pip install 'permbench[hf]'")
