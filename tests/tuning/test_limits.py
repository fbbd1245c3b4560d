"""The limits of a core: above what a kernel reaches, and ordered as vectors and caches are."""

import numpy as np

from onnxkiln.targets import host
from onnxkiln.tuning.limits import CHAINS, STEPS, _compile, _multiply_function, _read_function, core_limits


def test_limits_are_those_of_a_processor():
    limits = core_limits(host(), 8 << 20)
    assert 1 < limits.gflops < 1000
    assert 0.5 < limits.gbytes < 2000


def test_the_kernels_do_the_work_that_is_counted():
    chains = np.full(CHAINS * 4, 0.5, np.float32)
    _compile(_multiply_function(4), host())(chains)
    expected = np.float64(0.5)
    for _ in range(STEPS):
        expected = expected * np.float32(0.999999) + np.float32(1e-6)
    np.testing.assert_allclose(chains, expected, rtol=1e-2)
    data, sums = np.arange(3 * 8 * 4, dtype=np.float32), np.zeros(8 * 4, np.float32)
    _compile(_read_function(4, 3), host())(data, sums)
    np.testing.assert_array_equal(sums, data.reshape(3, 32).sum(axis=0))
