"""ChatGLM-6B's tokenizer: a sentencepiece model, with white space spelled out.

After its published `tokenization_chatglm.py`, which transformers would have to run as foreign code.
A prompt ends with the tokens [gMASK] and <sop>; generation ends with <eop>.
"""

import json
import re
from pathlib import Path

GLM_MODEL = "ice_text.model"
_MAX_BLANKS = 80
_IMAGE_TOKENS = 20000  # ids below the text's, unless tokenizer_config.json says otherwise


class GlmCodec:
    """Raises ImportError without the package sentencepiece, ValueError for a model of another kind."""

    def __init__(self, folder: Path) -> None:
        from sentencepiece import SentencePieceProcessor  # noqa: PLC0415 - an optional extra

        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self._offset: int = settings.get("num_image_tokens", _IMAGE_TOKENS)
        self._pieces = SentencePieceProcessor(model_file=str(folder / GLM_MODEL))
        self._suffix = [self._special("[gMASK]"), self._special("<sop>")]
        self.eos_id = self._special("<eop>")

    def encode(self, text: str) -> list[int]:
        """The ids of a prompt, [gMASK] and <sop> at its end."""
        text = text.replace("\n", "<n>").replace("\t", "<|tab|>")
        text = re.sub(f" {{2,{_MAX_BLANKS}}}", lambda run: f"<|blank_{len(run[0])}|>", text)
        ids = self._pieces.encode(text, out_type=int)
        return [piece + self._offset for piece in ids] + self._suffix

    def decode(self, ids: list[int]) -> str:
        """The text, without special tokens."""
        special = {*self._suffix, self.eos_id}
        text_ids = range(self._offset, self._offset + self._pieces.get_piece_size())
        kept = [i - self._offset for i in ids if i in text_ids and i not in special]
        text: str = self._pieces.decode(kept)
        text = text.replace("<n>", "\n").replace("<|tab|>", "\t")
        return re.sub(r"<\|blank_(\d+)\|>", lambda run: " " * int(run[1]), text)

    def _special(self, name: str) -> int:
        piece: int = self._pieces.piece_to_id(name)
        if piece == self._pieces.unk_id():
            raise ValueError(f"{GLM_MODEL} has no piece {name}")
        return piece + self._offset
