"""Tests neither read nor write the tuning log of whoever runs them, nor do the programs that they start."""

import os

os.environ["ONNXKILN_LOG"] = "none"
