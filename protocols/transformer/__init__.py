"""Transformer models in the clear: shapes, synthetic weights, and the float64 reference."""
