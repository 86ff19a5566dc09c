"""How many bytes training and sampling need, before anything is allocated: `training` and `sampling` predict the peak.

Both run the real code once on tensors without contents and add up what is alive (`ledger`).
"""

from sfumato.memory.ledger import Ledger
from sfumato.memory.predict import Memory, sampling, training
from sfumato.memory.pretend import Pretence

__all__ = ["Ledger", "Memory", "Pretence", "sampling", "training"]
