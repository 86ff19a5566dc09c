"""The networks, as plain modules: they know channels, labels and a number for the time, and no diffusion."""
