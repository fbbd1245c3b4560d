"""NumPy's dtypes, and how those that DLPack doesn't carry through NumPy travel: as integers of the same width."""

from __future__ import annotations

import numpy as np

from ..errors import ArtifactError

_EXTRA = ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
"""dtypes that the package ml_dtypes adds to NumPy."""


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of a name such as "float32" or "bfloat16"; ArtifactError when ml_dtypes is needed and absent."""
    if name not in _EXTRA:
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise ArtifactError(f"the model has tensors of dtype {name}", hint="pip install ml_dtypes") from None
    return np.dtype(getattr(ml_dtypes, name))


def carrier(name: str) -> np.dtype | None:
    """The integer dtype that stands for ``name`` on the way through DLPack, or None when ``name`` passes itself."""
    if name not in _EXTRA:
        return None
    return np.dtype(np.uint16 if name == "bfloat16" else np.uint8)


def onnx_type(name: str) -> str:
    """ONNX Runtime's spelling: "tensor(float)", "tensor(int64)"."""
    short = {"float32": "float", "float64": "double"}
    return f"tensor({short.get(name, name)})"
