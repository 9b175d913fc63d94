"""Linear layers under homomorphic encryption: P0 multiplies what P1 encrypts by its matrices, P1 decrypts and
computes everything else in the clear.

| module | what stands there |
|---|---|
| `sizes` | which scheme: BFV, or CKKS with `system.scheme=ckks` |
| `parameters` | BFV: scales, plaintext modulus, coefficient packing: the smallest that fit a workload |
| `cipher` | BFV: keys, encryption, products, what hides a reply's noise |
| `ckks_parameters` | CKKS: scale and primes, the smallest that fit a workload |
| `secret_matrix` | one matrix under either scheme: 2 hops |
| `linear`, `ckks_linear` | its messages under BFV; under CKKS, whose products are those of `baselines.ckks` |
| `layer` | one transformer layer: 8 hops; `system.shuffle` |
| `primitives` | embedding, head, and what P1 computes on its own |
| `cost`, `memory` | what is sent, what is kept |

With U and D bytes of a BFV ciphertext there and back (48 kB and 24 kB), a matrix (m, k) takes about
2·√(k·m·U·D/N) bytes a token, half of them there. A CKKS ciphertext of 131 kB there and one of 66 kB
back hold 4,096 values each. Who learns what: `system`.
"""
