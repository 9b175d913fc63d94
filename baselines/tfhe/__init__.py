"""Fully homomorphic encryption over the torus (TFHE), by Concrete: whole numbers of a few bits, a table at
every function."""
