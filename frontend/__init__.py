"""ONNX file → checked, normalised ONNX → Relax module with an I/O contract."""

from .importer import ImportedModel, import_model
from .reader import ModelSource

__all__ = ["ImportedModel", "ModelSource", "import_model"]
