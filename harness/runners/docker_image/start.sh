#!/bin/sh
# What a container of the image starts: `python -m …`, with kernels that the image's build has compiled.
# numba must be able to write where it finds them, and the root is read-only: so it gets a copy.
set -e
mkdir -p "$NUMBA_CACHE_DIR"
cp -r /permbench/kernels/. "$NUMBA_CACHE_DIR"
exec python -m "$@"
