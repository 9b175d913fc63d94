"""SHAFT (Kei, Chow, NDSS 2025) on additive shares: a Fourier GeLU, a softmax of constant depth, one-hots from
the dealer.

What each system's own choice costs, in bits that each party sends for one element, and hops:

| primitive | here | hops | published |
|---|---|---|---|
| less-than | 1728 | 8 | log₂64 + 2 rounds |
| ReLU | 1856 | 9 | log₂64 + 3 rounds |
| softmax, of each score | 7808 | 41 | 41 rounds, 0.2383 MB for a row of 128 |
| GeLU | 3776 | 19 | 19 rounds, 354 MB for (128, 3072) |
| inverse square root | 2112 | 23 | 8 squarings, 5 Newton steps |
| index to one-hot | 64 | 1 | 2 rounds with the table's product |
"""
