"""Transformers, recurrent and other networks over sequences against ONNX Runtime, as ``networks.py`` measures.

    scripts/measure.py sequences [NAME | NAME:KIND | KIND ...]

KIND is ``fixed``, with all sizes known, or ``open``: batch, tokens and the length of the past are named.
"""

from __future__ import annotations

from typing import Any

from token_networks.catalog import NETWORKS

from .networks import chosen, measured, show

__all__ = ["measure", "show"]


def measure(*names: str) -> list[dict[str, Any]]:
    """One item for each network and kind."""
    return [measured(network, kind) for network, kind in chosen(names, NETWORKS)]
