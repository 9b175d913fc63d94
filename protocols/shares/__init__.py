"""What a system on secret shares runs: experiments, layers and whole models over its primitives.

| module | what stands there once |
|---|---|
| `primitives` | what a system brings: shares, products, functions, weights in shared form |
| `transformer_layer` | one layer, for prefill and decode |
| `generation` | prompt, decode steps, drafted tokens, the answer |
| `experiments` | argmax, a function, a linear layer, a layer |
| `fixed_weight` | P0's weights as integers |
| `plaintext` | the same in float64 with the system's own functions |
| `declared_cost` | the phases of an experiment from what primitives declare |
| `system` | all of it as a `System` |
"""
