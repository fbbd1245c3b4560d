"""Reading a picture of one line of text with a PP-OCR recogniser: what goes in, and what comes out.

After PaddleOCR's CRNN preprocessing and its greedy CTC decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

HEIGHT = 48
BLANK = 0


def picture_input(path: Path) -> npt.NDArray[np.float32]:
    """The picture as the model's input [1, 3, 48, width]: 48 high, the width in proportion, values from -1 to 1."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    width = max(1, round(picture.width * HEIGHT / picture.height))
    pixels = np.asarray(picture.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)
    blue_first = pixels[:, :, ::-1]  # PP-OCR was trained on OpenCV's channel order
    return np.ascontiguousarray(((blue_first / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None])


def model_characters(metadata: str) -> list[str]:
    """The character of each class, from the model's ``character`` metadata: a blank first, a space last."""
    return ["", *metadata.splitlines(), " "]


def decode(probabilities: npt.NDArray[np.float32], characters: Sequence[str]) -> str:
    """The text of ``probabilities`` [1, steps, classes]: the best class of each step, repeats and blanks dropped."""
    best = probabilities[0].argmax(axis=-1)
    kept = (best != BLANK) & (best != np.concatenate([[BLANK], best[:-1]]))
    return "".join(characters[index] for index in best[kept])
