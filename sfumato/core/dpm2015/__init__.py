"""The model of Sohl-Dickstein et al. 2015: its bound K, bits, and products of a model with other distributions."""
