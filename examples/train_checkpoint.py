"""Train a very small GPT-2 on this project's own pages and save it as a checkpoint folder.

    python examples/train_checkpoint.py FOLDER        (about two minutes; needs permbench[hf])

It is a stand-in for a real checkpoint where none can be downloaded: real tokenizer files, real
safetensors, text one can read.
"""

import sys
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

PAGES = ("METHODOLOGY.md", "SECURITY.md")
STEPS, BATCH, LENGTH = 400, 16, 64


def tokenizer_of(text: str, folder: Path) -> PreTrainedTokenizerFast:
    """Byte-level BPE of 1000 tokens, saved in `folder`."""
    core = ByteLevelBPETokenizer()
    core.train_from_iterator([text], vocab_size=1000, special_tokens=["<|endoftext|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    return tokenizer


def train(model: GPT2LMHeadModel, tokens: torch.Tensor) -> None:
    """Next-token prediction on random windows of one text."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(STEPS):
        starts = torch.randint(0, len(tokens) - LENGTH, (BATCH,))
        batch = torch.stack([tokens[s : s + LENGTH] for s in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{STEPS}, loss {loss.item():.2f}")


def main() -> None:
    """Train on the pages beside this folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    root = Path(__file__).resolve().parents[1]
    text = "\n".join((root / page).read_text(encoding="utf-8") for page in PAGES)
    tokenizer = tokenizer_of(text, folder)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=128, n_layer=4, n_head=4, n_positions=256)
    )
    train(model, torch.tensor(tokenizer(text)["input_ids"]))
    model.save_pretrained(folder)


if __name__ == "__main__":
    main()
