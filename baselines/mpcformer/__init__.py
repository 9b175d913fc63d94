"""MPCFormer: two parties on additive shares, a dealer of Beaver triples, cheap stand-ins for GeLU and softmax."""
