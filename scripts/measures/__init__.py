"""One promise a file, measured: what an artifact costs besides its kernels. ``scripts/measure.py`` runs them."""
