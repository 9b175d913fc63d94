"""MPCFormer: additive shares of two parties, Beaver triples of a dealer, Quad for GeLU, 2Quad for softmax."""
