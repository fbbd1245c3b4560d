"""DFT and STFT against NumPy and the reference evaluator: as matrix products and as sums."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Const, case, check_cases, check_model

from onnxkiln.errors import ConversionError
from onnxkiln.frontend import fourier

RNG = np.random.default_rng(9)


def _signal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _dft(x: np.ndarray, axis: int, length: int | None = None, wrap=Const, **attributes: int):
    inverse, onesided = attributes.get("inverse", 0), attributes.get("onesided", 0)
    signal = x[..., 0] + (1j * x[..., 1] if x.shape[-1] == 2 else 0)
    place = axis % x.ndim
    if inverse and onesided:
        wanted = np.fft.irfft(signal.astype("D"), length, axis=place)[..., None]
    else:
        function = np.fft.ifft if inverse else np.fft.fft
        result = function(signal.astype("D"), length, axis=place)
        result = result.take(range(result.shape[place] // 2 + 1), place) if onesided else result
        wanted = np.stack([result.real, result.imag], -1)
    size = None if length is None else wrap(np.array(length))
    return case("DFT", x, size, wrap(np.array(axis)), expected=wanted.astype(x.dtype), **attributes)


def _forms(wrap) -> list:
    real, pairs = _signal(2, 13, 5, 1), _signal(3, 8, 2)
    return [
        _dft(real, 1, wrap=wrap),
        _dft(real, -2, onesided=1, wrap=wrap),
        _dft(real, 1, 16, onesided=1, wrap=wrap),
        _dft(real, 1, 7, wrap=wrap),
        _dft(pairs, 1, wrap=wrap),
        _dft(pairs, 0, 5, inverse=1, wrap=wrap),
        _dft(pairs, 1, inverse=1, onesided=1, wrap=wrap),
        _dft(pairs, 1, 15, inverse=1, onesided=1, wrap=wrap),
        _dft(pairs, 1, 9, inverse=1, onesided=1, wrap=wrap),
        _dft(pairs.astype("d"), -3, inverse=1, wrap=wrap),
    ]


def test_known_lengths():
    check_cases(_forms(Const), atol=1e-5)


@pytest.mark.parametrize("wrap", [Const, np.array], ids=["constant axis", "axis at run time"])
def test_sums(wrap, monkeypatch):
    monkeypatch.setattr(fourier, "MOST_ELEMENTS", 10)
    check_cases(_forms(wrap), atol=1e-5)


def test_narrow_floats_and_opset_17():
    x = _signal(2, 6, 1).astype(np.float16)
    wide = np.fft.fft(x[..., 0].astype("d"))
    wanted = np.stack([wide.real, wide.imag], -1).astype(np.float16)
    check_cases([case("DFT", x, expected=wanted), case("DFT", _signal(2, 6, 3, 1), axis=2, onesided=1)], opset=17)


def test_long_transforms_keep_their_precision(monkeypatch):
    x = _signal(2, 1000, 1)
    check_cases([_dft(x, 1, onesided=1)], rtol=1e-5, atol=1e-4, artifact=True)
    monkeypatch.setattr(fourier, "MOST_ELEMENTS", 10)
    check_cases([_dft(x, 1, onesided=1)], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("wrap", [Const, np.array], ids=["constant", "run time"])
def test_stft(wrap):
    x, window = _signal(2, 50, 1), np.hanning(16).astype(np.float32)
    cases = []
    for onesided in (0, 1):
        cases.append(case("STFT", x, wrap(np.array(7)), wrap(window), onesided=onesided))
        cases.append(case("STFT", x, wrap(np.array(5)), None, wrap(np.array(12)), onesided=onesided))
        cases.append(case("STFT", x, wrap(np.array(16)), wrap(window), wrap(np.array(16)), onesided=onesided))
    pairs = _signal(1, 20, 2)
    cases.append(case("STFT", pairs, wrap(np.array(3)), wrap(window[:8]), onesided=0))
    check_cases(cases, opset=17, atol=1e-5)


def test_open_sizes():
    text = """<ir_version: 10, opset_import: ["" : 20]>
        f (float[n, t] x, float[8] window) => (float[n, f, k, 2] y, float[n, a, 2] z, float[n, f, s, 2] w) {
            axes = Constant<value_ints=[2]>()
            signal = Unsqueeze(x, axes)
            step = Constant<value_int=3>()
            length = Constant<value_int=8>()
            hann = HannWindow(length)
            y = STFT(signal, step, hann)
            z = DFT<onesided=1>(signal)
            w = STFT<onesided=0>(signal, step, window)
        }"""
    feeds = [{"x": _signal(*shape), "window": _signal(8)} for shape in [(2, 21), (1, 8), (3, 10)]]
    check_model(text, feeds, atol=1e-5)


def test_refusals():
    x = _signal(2, 6, 1)
    with pytest.raises(ConversionError, match="axis -1 holds real and imaginary parts"):
        check_cases([case("DFT", x, None, Const(np.array(-1)), expected=x)])
    with pytest.raises(ConversionError, match="the window and frame_length must agree, found 4 and 5"):
        inputs = [Const(np.array(2)), Const(np.ones(5, np.float32)), Const(np.array(4))]
        check_cases([case("STFT", x, *inputs, expected=x)])
