"""Hugging Face checkpoints of the GPT-2, LLaMA, BERT and ChatGLM-6B families, from a local folder."""

from protocols.errors import CheckpointError
from protocols.transformer.checkpoint.load import check, load, spec_of

__all__ = ["CheckpointError", "check", "load", "spec_of"]
