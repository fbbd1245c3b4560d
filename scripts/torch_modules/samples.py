"""All samples by name."""

from __future__ import annotations

from . import general, patterns, sequence, vision
from .sample import Sample

_FILES = (vision, sequence, general, patterns)
SAMPLES: dict[str, Sample] = {sample.name: sample for file in _FILES for sample in file.SAMPLES}
