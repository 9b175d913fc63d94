"""The network between parties: link profiles, the user-space link, calibration.

Imports neither the harness nor any protocol.
"""
