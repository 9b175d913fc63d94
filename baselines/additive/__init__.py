"""Additive shares of two parties and a dealer: Beaver triples, comparisons, CrypTen's functions, and what
may stand in for them. MPCFormer and SHAFT are made of them."""
