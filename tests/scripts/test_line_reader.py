"""What goes into the text recogniser, and how its output becomes text."""

import numpy as np
from PIL import Image

from line_reader import decode, model_characters, picture_input


def test_the_picture_keeps_its_proportions(tmp_path):
    Image.new("RGB", (200, 24), (255, 0, 0)).save(tmp_path / "red.png")
    pixels = picture_input(tmp_path / "red.png")
    assert pixels.shape == (1, 3, 48, 400)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    assert [pixels[0, channel, 0, 0] for channel in range(3)] == [-1, -1, 1]  # blue, green, red


def test_repeats_and_blanks_are_dropped():
    characters = model_characters("a\nb")
    assert characters == ["", "a", "b", " "]
    steps = [1, 1, 0, 1, 3, 2, 2, 0]
    probabilities = np.eye(4, dtype=np.float32)[steps][None]
    assert decode(probabilities, characters) == "aa b"
