"""The version of the package, for whatever writes it down: checkpoints, reports, protocols."""

__version__ = "0.1.0"
