"""sfumato: eight diffusion papers, one core.

`sfumato.core` is the mathematics, `sfumato.networks` the networks, `sfumato.papers` the recipes that join them, and
`sfumato.load` turns a run folder, a checkpoint or the name of a shipped model into one that samples.
"""

__version__ = "0.1.0"
