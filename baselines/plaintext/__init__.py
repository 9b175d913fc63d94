"""No privacy: the model in the clear at P0, prompt and answer over the same network."""
