"""The artifact folder: written by ``export``, checked and opened by ``loader``, run through ``session``."""
