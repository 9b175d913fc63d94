"""Runs measured one by one: sessions, sweeps, evaluations, verification, and their records."""
