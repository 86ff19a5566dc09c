"""sfumato: eight diffusion papers, one core.

`sfumato.core` is the mathematics, `sfumato.samplers` the samplers, `sfumato.networks` the networks, `sfumato.papers`
the recipes that join them, and `sfumato.load` turns a run folder, a checkpoint or the name of a shipped model into one
that samples; `sfumato.fit` trains one in one call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sfumato.version import __version__ as __version__

if TYPE_CHECKING:
    from sfumato.models import Model as Model
    from sfumato.models import load as load
    from sfumato.one_call import fit as fit


def __getattr__(name: str) -> Any:
    """`sfumato.load`, `sfumato.Model` and `sfumato.fit`, imported when they are first asked for."""
    if name in ("load", "Model"):
        from sfumato import models

        return getattr(models, name)
    if name == "fit":
        from sfumato.one_call import fit

        return fit
    raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
