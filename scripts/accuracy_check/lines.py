"""PP-OCR's recogniser on 200 rendered lines of news text, tilted, blurred and noisy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from accuracy_check.task import Answers, Feeds, Task
from accuracy_check.wheels import GENSIM, opened
from line_reader import HEIGHT, decode, model_characters

LINES, CALIBRATION = 200, 64
DATA = "gensim/test/test_data"


def task(model: Path) -> Task:
    """Lines of the 50 Lee texts to judge by; lines of the 300 background texts to calibrate on."""
    metadata = {item.key: item.value for item in onnx.load(model, load_external_data=False).metadata_props}
    characters = model_characters(metadata["character"])
    with opened(GENSIM) as wheel:
        judged, others = (wheel.read(f"{DATA}/{name}").decode("latin-1") for name in ("lee.cor", "lee_background.cor"))
    truth = _snippets(judged, LINES, seed=1)
    known = set(truth)
    calibration = [text for text in _snippets(others, 2 * CALIBRATION, seed=2) if text not in known][:CALIBRATION]
    random = np.random.default_rng(3)

    def score(found: Answers, exact: Answers) -> dict[str, float]:
        read = [decode(np.asarray(answer, np.float32), characters) for answer in found]
        wrong = sum(distance(text, line) for text, line in zip(read, truth, strict=True))
        same = [a.shape == b.shape and (a.argmax(-1) == b.argmax(-1)).mean() for a, b in zip(found, exact, strict=True)]
        rate = 100 * wrong / sum(map(len, truth))
        return {"character errors %": rate, "steps agree %": 100 * float(np.mean(same))}

    inputs = [rendered(text, random) for text in truth]
    return Task("ppocr_rec", [rendered(text, random) for text in calibration], inputs, score)


def _snippets(text: str, count: int, seed: int) -> list[str]:
    """Runs of words of 20 to 36 characters."""
    random, words = np.random.default_rng(seed), text.split()
    found: list[str] = []
    while len(found) < count:
        start, length = int(random.integers(len(words) - 12)), int(random.integers(20, 37))
        line = words[start]
        for word in words[start + 1 : start + 12]:
            if len(line) + 1 + len(word) > length:
                break
            line += f" {word}"
        if 12 <= len(line) <= 36 and line.isascii():
            found.append(line)
    return found


def rendered(text: str, random: np.random.Generator) -> Feeds:
    """The recogniser's input: dark text on light paper, a little tilted, blurred and noisy."""
    font = ImageFont.load_default(size=int(random.integers(24, 32)))
    box = font.getbbox(text)
    ink, paper = int(random.integers(0, 80)), int(random.integers(180, 256))
    sheet = Image.new("L", (round(box[2]) + 24, HEIGHT), paper)
    ImageDraw.Draw(sheet).text((12, (HEIGHT - box[3] - box[1]) / 2), text, fill=ink, font=font)
    sheet = sheet.rotate(float(random.uniform(-0.8, 0.8)), Image.Resampling.BILINEAR, fillcolor=paper)
    sheet = sheet.filter(ImageFilter.GaussianBlur(float(random.uniform(0.4, 1.0))))
    pixels = np.asarray(sheet, np.float64) + random.normal(0, random.uniform(3, 14), (HEIGHT, sheet.width))
    values = (np.clip(pixels, 0, 255) / 255 - 0.5) / 0.5
    return {"x": np.ascontiguousarray(np.broadcast_to(values, (1, 3, *values.shape)), np.float32)}


def distance(first: str, second: str) -> int:
    """Levenshtein's: insertions, deletions and replacements."""
    row: Sequence[int] = range(len(second) + 1)
    for i, a in enumerate(first, start=1):
        last, row = row, [i]
        for j, b in enumerate(second, start=1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (a != b)))
    return row[-1]
