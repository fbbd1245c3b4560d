"""How far Winograd's convolution can be from the exact one, element by element: a bound that holds for any numbers.

Each output is A' [sum over channels of (G g G') * (B' d B)] A. To first order in u = 2^-24 every term is wrong by at
most as many u as roundings lie on its way (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1):
the C additions over channels, and no more than ``TRANSFORMS`` in the transforms, one of them the weights'.
"""

from __future__ import annotations

import numpy as np

from .winograd_plan import TAPS, Transform

UNIT = 2.0**-24
"""Rounding to float32 moves a number by at most this share of it."""

TRANSFORMS = 24
"""Roundings on the way of one term but for the sum over channels. Of F(4x4): B' d B, twice three additions and a
factor of 5, 8; the weights, computed in float64, 1; the product, 1; A' m A, twice four additions, 8 (the other factors
are powers of two). That makes 18; the rest is room for other orders of the same sums."""


def error_bound(data: np.ndarray, weight: np.ndarray, transform: Transform, padding: int = 1) -> np.ndarray:
    """[N, O, H', W'] in float64: how far each output may be from the exact convolution of stride 1.

    ``data`` is [N, C, H, W], ``weight`` [O, C, 3, 3]. The bias and what follows are not in it.
    """
    n, channels, height, width = data.shape
    out, size = transform.out, transform.size
    rows, columns = height + 2 * padding - TAPS + 1, width + 2 * padding - TAPS + 1
    down, across = -(-rows // out), -(-columns // out)
    padded = np.zeros((n, channels, (down - 1) * out + size, (across - 1) * out + size))
    padded[:, :, padding : padding + height, padding : padding + width] = np.abs(data)
    tiles = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (2, 3))[:, :, ::out, ::out]
    to_tile, to_output = np.abs(transform.input), np.abs(transform.output)
    inputs = np.einsum("ei,fj,nctsij->nctsef", to_tile, to_tile, tiles, optimize=True)
    weights = np.abs(np.einsum("ei,fj,ocij->ocef", transform.weight, transform.weight, weight.astype(np.float64)))
    products = np.einsum("nctsef,ocef->notsef", inputs, weights, optimize=True)
    sums = np.einsum("ae,bf,notsef->notasb", to_output, to_output, products, optimize=True)
    whole = sums.reshape(n, weight.shape[0], down * out, across * out)
    return (channels + TRANSFORMS) * UNIT * whole[:, :, :rows, :columns]
