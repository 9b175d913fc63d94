"""The network between parties: link profiles, the user-space link, tc and
network namespaces, calibration.

Imports neither the harness nor any protocol.
"""
