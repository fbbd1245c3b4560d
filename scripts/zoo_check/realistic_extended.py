"""Realistic inputs for the models of the extended zoo: sounds, spectrograms, pictures, sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from zoo_check.cases import Feeds, Input
from zoo_check.realistic import PICTURE, Reference
from zoo_check.sounds import chord, log_power, utterance

T5_IDS = [71, 29801, 3, 29213, 3, 9, 478, 139, 1437, 1081, 6, 11, 3, 9, 207, 80, 656, 34, 1006, 406, 2839, 125, 34, 598]
T5_IDS += [5, 1]
"""The sentence of ``realistic.py`` in T5's word pieces, and the end."""
LAC_IDS = [5556, 6674, 1655, 2900, 5189, 2474, 5663, 6674, 2833, 3379, 1655, 736, 5001, 58223, 1959, 4853, 5556, 6674]
LAC_IDS += [1655, 6638, 2158, 3343, 2633, 58223]
"""The same in Chinese, in the characters of Baidu's LAC."""


def speech(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """Two seconds of an utterance at 16 kHz (or as many samples as the input is fixed to), and their number."""
    shape = inputs[0].shape
    samples = shape[-1] if isinstance(shape[-1], int) else 32000
    feeds: Feeds = {inputs[0].name: utterance(samples)[None].astype(np.float32)}
    for lengths in inputs[1:]:
        feeds[lengths.name] = np.array([samples], np.int64)
    return feeds


def speech_windows(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """An utterance in windows of 32 ms with 4 ms of context before each, and a fresh state."""
    sound = np.concatenate([np.zeros(64), utterance(31 * 512)])
    windows = np.lib.stride_tricks.sliding_window_view(sound, 576)[::512]
    return _with_zeros(inputs, {inputs[0].name: windows})


def quality_spectrograms(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """Log power of an utterance: three takes (far end, near end, processed) where three are wanted, else one."""
    takes, bands = (int(size) for size in (inputs[0].shape[1], inputs[0].shape[3]))
    sound = utterance(48000)
    echo = 0.3 * np.concatenate([np.zeros(800), sound[:-800]])
    powers = [log_power(take, bands) for take in (sound, sound + echo, sound + 0.1 * echo)[:takes]]
    return _with_zeros(inputs, {inputs[0].name: np.stack(powers)[None] / 10})


def mel_patch(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """76 frames of 32 bands, as the speech embedding sees them."""
    power = log_power(utterance(76 * 160 + 512), 32)[:76]
    return {inputs[0].name: (power / 10 + 2)[None, :, :, None].astype(np.float32)}


def struck_chord(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """A chord at 22050 Hz."""
    return {inputs[0].name: chord(int(inputs[0].shape[1]), 22050)[None, :, None].astype(np.float32)}


def brain_waves(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """A spectrogram [1, bands, time] with a rhythm that sets in half way, standardised."""
    bands, time = int(inputs[0].shape[1]), 150
    power = np.random.default_rng(0).normal(0, 1, (bands, time)) - np.linspace(0, 3, bands)[:, None]
    power[8:20, time // 2 :] += 4
    return {inputs[0].name: ((power - power.mean()) / power.std())[None].astype(np.float32)}


def grey_line(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """The demo's line of text in grey, 64 high, values from 0 to 1."""
    height = int(inputs[0].shape[2])
    with Image.open(PICTURE) as file:
        line = file.convert("L").resize((round(file.width * height / file.height), height))
    return {inputs[0].name: (np.asarray(line, np.float32) / 255)[None, None]}


def printed_page(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """A white page of the model's size with the demo's line on it three times, normalised as for ImageNet."""
    height, width = (size if isinstance(size, int) else 416 for size in inputs[0].shape[2:])
    sheet = Image.new("RGB", (width, height), "white")
    with Image.open(PICTURE) as file:
        line = file.convert("RGB").resize((width - 40, 32))
    for top in (height // 8, height // 2, height // 2 + 40):
        sheet.paste(line, (20, top))
    pixels = np.asarray(sheet, np.float32) / 255
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return {inputs[0].name: ((pixels - mean) / deviation).transpose(2, 0, 1)[None].astype(np.float32)}


def picture_of_signs(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """The demo's line cut into four pieces, laid on a page in colours from 0 to 255, as the YOLOX detector wants it."""
    height, width = (int(size) for size in inputs[0].shape[2:])
    sheet = Image.new("RGB", (width, height), (210, 220, 230))
    with Image.open(PICTURE) as file:
        line = file.convert("RGB")
    step = line.width // 4
    for number in range(4):
        piece = line.crop((number * step, 0, (number + 1) * step, line.height)).resize((96, 48))
        sheet.paste(piece, (40 + 180 * (number % 2), 60 + 170 * (number // 2)))
    return {inputs[0].name: np.asarray(sheet, np.float32).transpose(2, 0, 1)[None]}


def t5_sentence(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """The sentence, and its first half padded to its length."""
    half = len(T5_IDS) // 2
    ids = np.array([T5_IDS, T5_IDS[:half] + [0] * (len(T5_IDS) - half)])
    return _by_name(inputs, {"input_ids": ids, "attention_mask": ids != 0})


def chinese_sentence(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """One sentence, all of its characters valid."""
    return _by_name(inputs, {"token_ids": np.array([LAC_IDS]), "length": np.array([len(LAC_IDS)])})


def arabic_letters(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """Numbers of letters as a vowelless text has them: words of two to six letters, a space (3) between them."""
    random = np.random.default_rng(0)
    ids = [number for length in (4, 3, 6, 2, 5, 4) for number in (*random.integers(40, 70, length), 3)]
    return {inputs[0].name: np.array([ids], np.int64)}


def one_word(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """The letters of a word, each as a vector of zeros with one 1."""
    width = int(inputs[0].shape[2])
    places = [ord(letter) - ord("a") + 11 for letter in "compiler"]
    return {inputs[0].name: np.eye(width, dtype=inputs[0].dtype)[places][None]}


def voice_frames(inputs: Sequence[Input], reference: Reference) -> Feeds:
    """Four frames of an utterance side by side at each of 30 steps, a voice's direction, and a fresh state."""
    frames, width = inputs[0].name, int(inputs[0].shape[2])
    power = log_power(utterance(120 * 160 + 512), width // 4)[:120] / 10
    voice = np.random.default_rng(0).standard_normal((1, int(inputs[1].shape[1])))
    values = {frames: power.reshape(1, 30, width), inputs[1].name: voice / np.linalg.norm(voice)}
    return _with_zeros(inputs, values)


def _by_name(inputs: Sequence[Input], values: Mapping[str, npt.NDArray[np.generic]]) -> Feeds:
    return {item.name: values[item.name].astype(item.dtype) for item in inputs}


def _with_zeros(inputs: Sequence[Input], values: Mapping[str, npt.NDArray[np.generic]]) -> Feeds:
    """Inputs without a value (states, embeddings of a rater) are zero; their open dims are 1."""
    feeds: Feeds = {}
    for item in inputs:
        zeros = np.zeros([size if isinstance(size, int) else 1 for size in item.shape])
        feeds[item.name] = values.get(item.name, zeros).astype(item.dtype)
    return feeds


MAKERS: dict[str, Callable[[Sequence[Input], Reference], Feeds]] = {
    function.__name__: function
    for function in (
        speech,
        speech_windows,
        quality_spectrograms,
        mel_patch,
        struck_chord,
        brain_waves,
        grey_line,
        printed_page,
        picture_of_signs,
        t5_sentence,
        chinese_sentence,
        arabic_letters,
        one_word,
        voice_frames,
    )
}
