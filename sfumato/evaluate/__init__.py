"""Measuring: feature nets, distances between sets of images, and results that carry their protocol."""
