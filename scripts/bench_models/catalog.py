"""What is measured: the zoo's trained models, and those generated here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import onnx

from zoo_check.cases import Listed
from zoo_models.catalog import load_catalog
from zoo_models.fetch import cache_folder, fetch

from .bert import build_bert_base
from .mobilenet import build_mobilenet_v2
from .resnet import build_resnet18, build_resnet50


@dataclass(frozen=True)
class Generated:
    """A generated model; ``inputs`` are the sizes to measure with, ``ranges`` those of random integers."""

    name: str
    build: Callable[[], onnx.ModelProto]
    inputs: Mapping[str, Sequence[int]]
    ranges: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        """The listed shape of the input ``name``."""
        return tuple(self.inputs[name])


@dataclass(frozen=True)
class BenchModel:
    """A model to measure: ``path()`` fetches or makes the file."""

    name: str
    path: Callable[[], Path]
    listed: Listed


_IMAGE = {"x": (1, 3, 224, 224)}
_SENTENCE = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (1, 128))
GENERATED = (
    Generated("resnet18", build_resnet18, _IMAGE),
    Generated("resnet50", build_resnet50, _IMAGE),
    Generated("mobilenet_v2", build_mobilenet_v2, _IMAGE),
    Generated(
        "bert_base",
        build_bert_base,
        _SENTENCE,
        {"input_ids": (0, 30522), "attention_mask": (0, 2), "token_type_ids": (0, 2)},
    ),
)


def load_models(names: Sequence[str] = ()) -> list[BenchModel]:
    """All models, or those named. Raises SystemExit with words for an unknown name."""
    models = [BenchModel(entry.name, partial(fetch, entry), entry) for entry in load_catalog()]
    models += [BenchModel(item.name, partial(generate, item), item) for item in GENERATED]
    known = {model.name for model in models}
    for name in names:
        if name not in known:
            raise SystemExit(f"there is no model {name!r}; there are {', '.join(sorted(known))}")
    return [model for model in models if not names or model.name in names]


def generate(item: Generated, folder: Path | None = None) -> Path:
    """The model's file in the cache, made anew when its generator gives other bytes."""
    folder = folder or cache_folder().with_name("bench")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{item.name}.onnx"
    data = item.build().SerializeToString(deterministic=True)
    if not path.is_file() or path.read_bytes() != data:
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(data)
        partial.replace(path)
    return path
