"""Convolutional networks of many kinds with seeded random weights, beyond those that are measured by name."""
