"""Puma: three-party inference on replicated secret shares.

Bits that each role sends for one element, and hops, beside what SPU's ABY3 back end takes (declared by
it, or its measured bytes times 8). Where roles differ: the one that sends most / the average.

| primitive | here | hops | SPU |
|---|---|---|---|
| product | 64 | 1 | 64 / 1 |
| truncation, also of a product | 128 | 2 | about 128 / 2 |
| sign | 288 | 8 | 288 / 8 |
| arithmetic to bits | 896 | 8 | 896 / 8 |
| bit to arithmetic | 64 | 2 | |
| product with a bit | 128 | 2 | |
| exponential | 1056 (768 without the clip) | 11 | 768–832 |
| GeLU | 1696 | 12 | 2496 |
| reciprocal | 3968 / 2816 | 27 | 3264–3648 |
| inverse square root | 4992 / 3115 | 26 | 3872–4256 |
| softmax, row of 128 | 1615 | 106 | 1720 |
| argmax of 100,000, bytes in all | 17.35 MB | 172 | 19–23 MB |

Protocols are coroutines (`rounds`); what they send is declared beside them (`cost`).
"""
