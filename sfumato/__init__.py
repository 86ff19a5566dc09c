"""sfumato: eight diffusion papers, one core.

`sfumato.core` is the mathematics, `sfumato.networks` the networks, `sfumato.papers` the recipes that join them, and
`sfumato.load` turns a run folder, a checkpoint or the name of a shipped model into one that samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfumato.model import Model as Model
    from sfumato.model import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`sfumato.load` and `sfumato.Model`, imported when they are first asked for."""
    if name in ("load", "Model"):
        from sfumato import model

        return getattr(model, name)
    raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
