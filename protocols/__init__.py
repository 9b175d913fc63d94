"""Secure inference protocols and the arithmetic they stand on.

Imports nothing from the harness: a protocol sees its transport only through `protocols.party.Party`.
"""
