"""All networks, their inputs, and which dims of these are open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from . import classifiers, mobile, pictures, signals
from .layers import Layers

FIXED, BATCH, SIZE = "fixed", "batch", "size"


@dataclass(frozen=True)
class ConvNetwork:
    """``build`` adds the layers and names the output; ``shape`` is the input's; ``kinds`` are those of open dims.

    FIXED has none, BATCH an open first dim, SIZE open spatial dims as well.
    """

    build: Callable[[Layers], str]
    shape: tuple[int, ...]
    kinds: tuple[str, ...] = (FIXED, BATCH, SIZE)

    @property
    def name(self) -> str:
        return self.build.__name__

    def model(self, kind: str = FIXED) -> onnx.ModelProto:
        """The model with input ``x``; its dims are open as ``kind`` says."""
        net = Layers(self.name, self.shape[1], len(self.shape) - 2)
        dims: list[int | str] = list(self.shape)
        if kind != FIXED:
            dims[0] = "batch"
        if kind == SIZE:
            dims[2:] = [("height", "width") if len(dims) == 4 else ("length", "rows", "columns")][0][: len(dims) - 2]
        return net.model(dims, self.build(net))

    def feeds(self) -> dict[str, np.ndarray[Any, Any]]:
        """Normally distributed numbers."""
        return {"x": np.random.default_rng(0).standard_normal(self.shape, np.float32)}


_CLOSED = (FIXED, BATCH)
_IMAGE = (1, 3, 224, 224)
NETWORKS: dict[str, ConvNetwork] = {
    network.name: network
    for network in (
        ConvNetwork(classifiers.vgg11, _IMAGE, _CLOSED),
        ConvNetwork(classifiers.alexnet, _IMAGE, _CLOSED),
        ConvNetwork(classifiers.squeezenet, _IMAGE),
        ConvNetwork(classifiers.densenet, _IMAGE),
        ConvNetwork(classifiers.inception, (1, 3, 299, 299)),
        ConvNetwork(classifiers.regnet, _IMAGE),
        ConvNetwork(classifiers.resnext, _IMAGE),
        ConvNetwork(classifiers.darknet, (1, 3, 256, 256)),
        ConvNetwork(classifiers.convnext, _IMAGE),
        ConvNetwork(mobile.mobilenet_v1, _IMAGE),
        ConvNetwork(mobile.mobilenet_v3, _IMAGE),
        ConvNetwork(mobile.efficientnet_b0, _IMAGE),
        ConvNetwork(mobile.shufflenet, _IMAGE, _CLOSED),
        ConvNetwork(mobile.ghostnet, _IMAGE),
        ConvNetwork(mobile.mobilevit, (1, 3, 256, 256), _CLOSED),
        ConvNetwork(pictures.unet, (1, 1, 256, 256)),
        ConvNetwork(pictures.unet_linear, (1, 3, 256, 256)),
        ConvNetwork(pictures.deeplab, (1, 3, 257, 257)),
        ConvNetwork(pictures.pyramid, (1, 3, 320, 320)),
        ConvNetwork(pictures.yolo, (1, 3, 320, 320)),
        ConvNetwork(pictures.hrnet, (1, 3, 256, 192)),
        ConvNetwork(pictures.autoencoder, (1, 3, 128, 128)),
        ConvNetwork(pictures.espcn, (1, 1, 180, 320)),
        ConvNetwork(pictures.super_resolution, (1, 3, 64, 64)),
        ConvNetwork(pictures.style_transfer, (1, 3, 128, 128)),
        ConvNetwork(signals.wavenet, (1, 1, 4000)),
        ConvNetwork(signals.tcn, (1, 32, 1024)),
        ConvNetwork(signals.wav2vec, (1, 1, 16000)),
        ConvNetwork(signals.separable_1d, (1, 64, 400)),
        ConvNetwork(signals.sound_unet, (1, 1, 16384)),
        ConvNetwork(signals.video, (1, 3, 8, 56, 56)),
        ConvNetwork(signals.video_mixed, (1, 3, 16, 64, 64)),
    )
}
