"""CKKS bootstrapping on a CPU, by Orion (MIT), which has Lattigo inside."""
