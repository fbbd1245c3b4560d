"""One realistic input per kind of model: what the network was trained to see, made from what is at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from checkout import ROOT
from line_reader import picture_input
from zoo_check.cases import Feeds, Input

PICTURE = ROOT / "docs" / "pictures" / "ONNX goes in, a shared library comes out..png"

SENTENCE = (
    "A compiler translates a program into machine code, and a good one makes it fast without changing what it means."
)
BERT_IDS = [101, 1037, 21624, 16315, 1037, 2565, 2046, 3698, 3642, 1010, 1998, 1037, 2204, 2028, 3084, 2009, 3435, 2302]
BERT_IDS += [5278, 2054, 2009, 2965, 1012, 102]
"""SENTENCE in the word pieces of bert-base-uncased, between [CLS] and [SEP]."""
SMOLLM2_IDS = [49, 25316, 18419, 253, 1578, 618, 3746, 2909, 28, 284, 253, 1123, 582, 2022, 357, 3538, 1355, 4340, 732]
SMOLLM2_IDS += [357, 1530, 30]
"""SENTENCE in the byte pairs of SmolLM2."""

Reference = Callable[[Feeds], Sequence[npt.NDArray[np.generic]]]
"""Runs the model in ONNX Runtime: some inputs are another run's outputs."""


def picture(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """A synthetic photograph, 224x224, normalised as for ImageNet: a lit disc over a ground, with grain."""
    y, x = np.mgrid[0:224, 0:224] / 224
    disc = np.clip(1 - 3 * np.hypot(x - 0.45, y - 0.4), 0, 1)
    channels = [0.35 + 0.3 * y + 0.5 * disc, 0.45 + 0.2 * y * x + 0.3 * disc, 0.6 - 0.4 * y + 0.1 * disc]
    grain = np.random.default_rng(0).normal(0, 0.02, (3, 224, 224))
    image = np.clip(np.stack(channels) + grain, 0, 1)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    image = (image - mean[:, None, None]) / deviation[:, None, None]
    return {inputs[0].name: image[None].astype(np.float32)}


def sentence(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """SENTENCE, and a shorter one padded to its length."""
    short = [*BERT_IDS[:5], 102]
    ids = np.array([BERT_IDS, short + [0] * (len(BERT_IDS) - len(short))])
    mask = np.array([[1] * len(BERT_IDS), [1] * len(short) + [0] * (len(BERT_IDS) - len(short))])
    values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {item.name: values[item.name].astype(np.int64) for item in inputs}


def continuation(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """The last word of SENTENCE on top of the key-values that ONNX Runtime computed for the words before it."""
    past = [item for item in inputs if item.name != "input_ids"]
    empty: Feeds = {item.name: np.zeros((1, 3, 0, 64), np.float32) for item in past}
    _, *present = reference({"input_ids": np.array([SMOLLM2_IDS[:-1]]), **empty})
    kept = {item.name: np.asarray(value, np.float32) for item, value in zip(past, present, strict=True)}
    return {"input_ids": np.array([SMOLLM2_IDS[-1:]]), **kept}


def line_of_text(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """The demo's picture of a line of text."""
    return {inputs[0].name: picture_input(PICTURE)}


def page(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """A white page of 640x640 with that line on it twice, normalised as PP-OCR's detector wants it."""
    with Image.open(PICTURE) as file:
        line = file.convert("RGB").resize((600, 48))
    sheet = Image.new("RGB", (640, 640), "white")
    for top in (120, 400):
        sheet.paste(line, (20, top))
    pixels = np.asarray(sheet, np.float32)[:, :, ::-1] / 255
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return {inputs[0].name: ((pixels - mean) / deviation).transpose(2, 0, 1)[None].astype(np.float32)}


def file_bytes(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """This file's first and last 1024 bytes, as Magika cuts them; 256 stands for no byte."""
    data = np.frombuffer(Path(__file__).read_bytes().strip(), np.uint8).astype(np.int32)
    cut = np.full(2048, 256, np.int32)
    cut[: min(1024, data.size)] = data[:1024]
    cut[2048 - min(1024, data.size) :] = data[-1024:]
    return {inputs[0].name: cut[None]}


def chirp(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """32 ms of a rising tone at 16 kHz after 4 ms of context, with a little noise; the state is a fresh one."""
    time = np.arange(576) / 16000
    tone = 0.3 * np.sin(2 * np.pi * (200 * time + 8000 * time**2)) + np.random.default_rng(0).normal(0, 0.01, 576)
    values = {"input": tone[None], "state": np.zeros((2, 1, 128)), "sr": np.array(16000)}
    return {item.name: values[item.name].astype(item.dtype) for item in inputs}


MAKERS: dict[str, Callable[[Sequence[Input], Reference], Feeds]] = {
    function.__name__: function
    for function in (picture, sentence, continuation, line_of_text, page, file_bytes, chirp)
}
