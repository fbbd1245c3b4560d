"""Scales, zero points and integer weights."""

import numpy as np
import pytest
from quantized_models import noise

from onnxkiln.quantization.parameters import Range, affine_of, quantize_bias, quantize_weight, scales_for_bias


@pytest.mark.parametrize("bounds", [(-1, 3), (0, 7.5), (2, 5), (-5, -2), (-1e-3, 1e4), (-1e20, 1e20)])
def test_a_scale_covers_its_range_and_zero_exactly(bounds):
    affine = affine_of(Range(*bounds))
    assert 0 <= affine.zero <= 255
    low, high = -affine.zero * affine.scale, (255 - affine.zero) * affine.scale
    slack = affine.scale * 0.51
    assert low <= min(bounds[0], 0) + slack
    assert high >= max(bounds[1], 0) - slack
    assert affine.scale == np.float32(affine.scale)


def test_a_range_of_zero_alone_has_scale_one():
    assert affine_of(Range(0, 0)) == affine_of(Range(0, 1e-38))
    assert (affine_of(Range(0, 0)).scale, affine_of(Range(0, 0)).zero) == (1.0, 0)


@pytest.mark.parametrize(("shape", "axis"), [((5, 3, 3, 2), 0), ((7, 5), 1), ((1, 1), 0)])
def test_weights_are_within_half_a_step_and_symmetric(shape, axis):
    along = [-1 if i == axis else 1 for i in range(len(shape))]
    weight = noise(*shape) * np.linspace(0.01, 10, shape[axis]).reshape(along)
    made = quantize_weight(weight.astype(np.float32), axis)
    assert made.values.dtype == np.int8
    assert made.values.min() >= -127
    by_channel = np.moveaxis(made.values, axis, 0).reshape(shape[axis], -1).astype(int)
    assert np.abs(by_channel).max(axis=1).tolist() == [127] * shape[axis]
    step = np.moveaxis(np.abs(made.real() - weight), axis, -1) / made.scales
    assert step.max() <= 0.501


def test_a_channel_of_zeros_and_one_scale_for_all():
    weight = noise(3, 4)
    weight[1] = 0
    made = quantize_weight(weight, 0)
    assert made.scales[1] == 1
    assert not made.values[1].any()
    assert len(set(quantize_weight(weight, 0, per_channel=False).scales.tolist())) == 1


def test_a_bias_beside_which_weights_are_nothing_has_room():
    assert quantize_bias(np.array([1, -2], np.float32), np.array([0.5, 0.25], np.float32)).tolist() == [2, -8]
    weight = np.array([[1e-12, -2e-12], [0.5, 1], [0, 0]], np.float32)
    bias = np.array([3, -4, 5e9], np.float32)
    made = quantize_weight(weight, 0, least=scales_for_bias(bias, 0.01))
    integers = quantize_bias(bias, np.float32(0.01) * made.scales)
    np.testing.assert_allclose(integers * (0.01 * made.scales.astype(float)), bias, rtol=1e-6)
    assert made.scales[1] == np.float32(1 / 127)
    assert np.abs(made.real() - weight).max() < 0.005
