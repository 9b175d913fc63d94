"""Function secret sharing of two parties and a dealer, as SIGMA (ePrint 2023/1269).

| module | what stands there |
|---|---|
| `bits` | numbers packed to the bit: keys and openings |
| `dpf`, `dpf_kernels` | distributed point functions in batches: keys, comparison, lookup |
| `context` | masked values, the dealer's keys, the two passes |
| `points`, `key_queue` | keys of points until they are evaluated; all keys until they are taken |
| `drelu`, `truncation`, `lut`, `multiply` | gates |
| `maximum`, `activation`, `exponential`, `float_lut`, `softmax`, `norm` | functions over gates |
| `linear`, `attention`, `layer`, `tables` | matrices |
| `input_masks` | what P1 brings and gets |
| `approx`, `functions` | float64 twins; each function with its twin and its cost |
| `costs`, `workload_cost` | declared bytes and hops |

Key sizes in bits, in a ring of n bits, λ = 127, ν = 7:

| gate | here | published |
|---|---|---|
| DPF of k bits | (k − ν)(λ + 2) + 2λ; 2^k for k ≤ ν | the same |
| DReLU | DPF of n − 1 bits, and 1 | the same |
| select, multiply | 4·n, 3·n | the same |
| table of k bits, m bits out | DPF of k bits, k + 2·m | the same |
| truncate-reduce by f | DPF of f bits, 2·(n − f) | the same |
"""
