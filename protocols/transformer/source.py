"""Where a generation's weights come from: a checkpoint's folder, or a seed."""

from pathlib import Path

from protocols.transformer.model import ModelWeights, synthetic_model
from protocols.workload import Generation


def model_weights(workload: Generation, seed: int) -> ModelWeights:
    """The weights of `workload`'s model. Raises CheckpointError for a folder that is none."""
    if workload.checkpoint is None:
        return synthetic_model(workload.spec, seed, workload.tie_layers)
    from protocols.transformer.checkpoint import load  # noqa: PLC0415 - needs an optional package

    return load(Path(workload.checkpoint))
