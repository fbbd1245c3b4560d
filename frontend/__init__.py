"""ONNX file → checked, normalised ONNX → Relax module with an I/O contract."""

from .importer import ImportedModel, Rewrite, import_model
from .reader import ModelSource

__all__ = ["ImportedModel", "ModelSource", "Rewrite", "import_model"]
