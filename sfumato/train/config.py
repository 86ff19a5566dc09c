"""Where the training numbers were; to be removed once nothing asks for them here."""

from sfumato.papers.training import TrainConfig as TrainConfig
