"""Shamir shares modulo 2^61 − 1 among n parties, of which any t may pool what they see.

What a party opens of one element, and hops, where t < n/2. Correlations are made offline, a comparison's
mask with 31 products of its bits. An opened element is (2t + n − 1)/n elements sent by each party,
below 2 (`context`).

| primitive | opened | hops | doubles | masks of 61 bits |
|---|---|---|---|---|
| product | 1 | 2 | 1 | 0 |
| truncation, also of a product, an inner product, a matrix product | 1 | 2 | 0 | 1 |
| comparison with k thresholds | 1 + 55·k | 12 | 55·k | 1 |
| larger of two | 57 | 14 | 56 | 1 |
| exponential | 62 | 14 | 56 | 6 |
| GeLU (SiLU: 55 more of both) | 171 | 14 | 165 | 6 |
| reciprocal | 1,382 | 22 | 1,375 | 7 |
| inverse square root | 2,262 | 22 | 2,255 | 7 |
| softmax, row of 128 | 123 | 136 | 115 | 8 |

With a dealer and t ≥ n/2 a product opens both factors instead (`multiply`). The hops above, and in the
other modules, are those of t < n/2; where a truncation took in the product, there are 2 more.

Protocols are coroutines (`openings`) that declare what they take (`cost`).
"""
