"""Training: the loop, its settings, moving averages, and the run folder with its checkpoints.

Importing this package is cheap: `accelerate` is imported when a run starts.
"""

from sfumato.papers.training import TrainConfig, parse_count
from sfumato.runtime.checkpoint import Checkpoint, CheckpointError, read, save
from sfumato.runtime.folder import RunError, RunFolder
from sfumato.runtime.weights import save_weights
from sfumato.train.ema import EMA
from sfumato.train.learning_rate import learning_rate_at
from sfumato.train.loop import TrainResult, train
from sfumato.train.state import NonFiniteError

__all__ = [
    "EMA", "Checkpoint", "CheckpointError", "NonFiniteError", "RunError", "RunFolder", "TrainConfig", "TrainResult",
    "learning_rate_at", "parse_count", "read", "save", "save_weights", "train",
]  # fmt: skip
