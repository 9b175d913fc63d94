"""ReLU of 65,536 values by SPU's Cheetah: a function that permbench's own driver of SPU does not have.

spu_relu.yaml says how to run it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "conf" / "external"))

import jax
import numpy as np
import spu_party

index, folder, threads, *addresses = sys.argv[1:]
inputs = f"{folder}/{index}.npz"
np.savez(inputs, x=np.resize([-1.5, 2.25, -0.5, 3.0], 65536))
spu_party.FUNCTIONS["relu"] = jax.nn.relu
work = '{"kind": "nonlinear", "op": "relu"}'
sys.exit(spu_party.main("CHEETAH", index, work, inputs, threads, *addresses))
