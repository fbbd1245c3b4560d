"""Sounds that are trained for, made from sines and noise: an utterance, a chord; and their spectrograms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

FORMANTS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))
"""The first three resonances of a, i, u and e, in Hz."""


def utterance(samples: int, rate: int = 16000) -> Samples:
    """Four vowels of a falling voice, with pauses between them and faint noise; ``samples`` long, within -1 and 1."""
    time = np.arange(samples) / rate
    random = np.random.default_rng(0)
    vowel = np.minimum((time * 4).astype(int), 10**6) % len(FORMANTS)
    phase = 2 * np.pi * (140 * time - 4 * np.minimum(time, 4) ** 2)
    sound = np.zeros(samples)
    for harmonic in range(1, 28):
        frequency = harmonic * 130
        loudness = np.array([sum(np.exp(-(((frequency - peak) / 150) ** 2)) for peak in peaks) for peaks in FORMANTS])
        sound += (loudness[vowel] + 0.02) * np.sin(harmonic * phase) / harmonic**0.5
    loud = np.clip(np.sin(2 * np.pi * 4 * time) * 2, 0, 1)
    sound = sound * loud / max(1.0, float(np.abs(sound).max(initial=0)))
    return 0.5 * sound + random.normal(0, 0.003, samples)


def chord(samples: int, rate: int) -> Samples:
    """A struck chord of three notes, each with overtones, dying away."""
    time = np.arange(samples) / rate
    notes = (261.6, 329.6, 392.0)
    parts = [np.sin(2 * np.pi * note * over * time) / over**2 for note in notes for over in (1, 2, 3)]
    return 0.2 * np.sum(parts, axis=0) * np.exp(-2 * time)


def log_power(sound: Samples, bands: int, hop: int = 160) -> Samples:
    """Natural log of the power in ``bands`` bands from 0 Hz up, one row per ``hop`` samples: [frames, bands]."""
    width = 512
    frames = np.lib.stride_tricks.sliding_window_view(sound, width)[::hop] * np.hanning(width)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    edges = np.linspace(0, power.shape[1], bands + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    return np.log(np.array([np.interp(centres, np.arange(power.shape[1]), row) for row in power]) + 1e-8)
