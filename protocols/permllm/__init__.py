"""PermLLM: two-party inference with masked sharing and random permutations."""
