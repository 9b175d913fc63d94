"""Puma: three-party inference on replicated secret shares."""
