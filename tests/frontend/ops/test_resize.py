"""Resize and Upsample against ONNX Runtime, whose rounding of coordinates is the one that models were made with."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx_check import Case, Const, case, check_cases, check_model
from ort_case import by_runtime

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(2)
X = RNG.standard_normal((2, 3, 7, 5)).astype(np.float32)
BYTES = (X * 90 + 128).clip(0, 255).astype(np.uint8)
MODES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
SIZES = [(14, 10), (1, 1), (11, 3), (3, 17), (7, 5), (21, 20)]


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def sized(mode: str, size: tuple[int, int], dims: str = "fixed", x: np.ndarray = X, **attributes: object) -> Case:
    return by_runtime(
        case("Resize", x, None, None, Const(i64(*x.shape[:2], *size)), mode=mode, dims=dims, **attributes)
    )


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_nearest(dims):
    cases = [
        sized("nearest", size, dims, coordinate_transformation_mode=mode, nearest_mode=rounding)
        for mode, rounding, size in itertools.product(MODES, ROUNDINGS, SIZES)
        if dims == "fixed" or size in SIZES[2:4]
    ]
    check_cases(cases, opset=19)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_interpolation(mode, dims):
    cases = [
        sized(mode, size, dims, coordinate_transformation_mode=coordinates)
        for coordinates, size in itertools.product(MODES, SIZES)
        if dims == "fixed" or size in SIZES[2:4]
    ]
    if mode == "cubic":
        cases = cases if dims == "fixed" else cases[:1]
        cases += [sized(mode, size, dims, exclude_outside=1, cubic_coeff_a=-0.5) for size in SIZES[2:3]]
    check_cases(cases, opset=19, atol=1e-5)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_scales(dims):
    cases = []
    for mode in ("nearest", "linear"):
        for pair in [(2, 2), (1, 4), (3, 3), (0.5, 0.7), (1.5, 0.3), (2.6, 1.01), (1, 1)][
            :: 1 if dims == "fixed" else 3
        ]:
            for coordinates in ("half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"):
                node = case("Resize", X, None, Const(f32(1, 1, *pair)), mode=mode, dims=dims, nearest_mode="floor",
                            coordinate_transformation_mode=coordinates)  # fmt: skip
                cases.append(by_runtime(node))
    check_cases(cases, opset=19, atol=1e-5)


def test_antialias():
    cases = [
        sized(mode, size, x=X[:, :, :, :], antialias=1, exclude_outside=outside)
        for mode in ("linear", "cubic")
        for size in [(3, 2), (7, 2), (2, 9), (14, 10)]
        for outside in (0, 1)
    ]
    cases += [sized(mode, (3, 4), x=BYTES, antialias=1) for mode in ("linear", "cubic")]
    check_cases(cases, opset=19, atol=1e-5)


def test_antialias_with_a_scale_known_when_running():
    cases = [sized(mode, size, "open", antialias=1) for mode in ("linear", "cubic") for size in [(3, 2), (2, 9)]]
    for mode, pair, outside in [("linear", (0.6, 0.3), 0), ("cubic", (0.35, 1.5), 1), ("cubic", (1, 2), 0)]:
        node = case("Resize", X, None, f32(1, 1, *pair), mode=mode, antialias=1, exclude_outside=outside)
        cases.append(by_runtime(node))
    cases.append(by_runtime(case("Resize", BYTES, None, None, i64(2, 3, 3, 4), mode="linear", antialias=1)))
    cases.append(case("Resize", X[:0], None, None, i64(0, 3, 3, 4), mode="linear", antialias=1, dims="first",
                      expected=np.zeros((0, 3, 3, 4), np.float32)))  # fmt: skip
    check_cases(cases, opset=19, atol=1e-5)


@pytest.mark.parametrize("dims", ["fixed", "first"])
def test_sizes_to_fit_known_when_running(dims):
    cases = [
        case("Resize", X, None, None, i64(*sizes), axes=[2, 3], mode=mode, keep_aspect_ratio_policy=policy, dims=dims)
        for sizes in [(9, 11), (3, 4), (7, 1)]
        for mode, policy in itertools.product(["nearest", "linear"], ["not_larger", "not_smaller"])
    ]
    check_cases(cases, opset=19, atol=1e-5)


def test_crop_and_resize():
    cases = []
    for mode, roi in itertools.product(
        ["nearest", "linear"], [(0, 0, 0.2, 0.1, 1, 1, 0.8, 0.9), (0, 0, -0.3, 0.5, 1, 1, 0.5, 1.4)]
    ):
        for size in [(4, 3), (9, 1)]:
            given = (X, Const(f32(*roi)), None, Const(i64(2, 3, *size)))
            how = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": -7.0}
            cases.append(by_runtime(case("Resize", *given, **how)))
    check_cases(cases, opset=19)


def test_axes_ranks_policies_and_dtypes():
    volume = RNG.standard_normal((1, 2, 3, 4, 5)).astype(np.float32)
    line = RNG.standard_normal((1, 2, 9)).astype(np.float32)
    cases = [
        case("Resize", X, None, Const(f32(2, 0.6)), axes=[2, 3], mode="linear"),
        case("Resize", X, None, None, Const(i64(9, 11)), axes=[3, 2], mode="linear"),
        case(
            "Resize",
            X,
            None,
            None,
            Const(i64(9, 11)),
            axes=[2, 3],
            mode="nearest",
            keep_aspect_ratio_policy="not_larger",
        ),
        case(
            "Resize",
            X,
            None,
            None,
            Const(i64(9, 11)),
            axes=[2, 3],
            mode="linear",
            keep_aspect_ratio_policy="not_smaller",
        ),
        case("Resize", volume, None, None, Const(i64(1, 2, 6, 3, 7)), mode="linear"),
        case("Resize", volume, None, None, Const(i64(1, 2, 6, 8, 10)), mode="nearest"),
        case("Resize", line, None, Const(f32(1, 1, 2)), mode="linear"),
        case("Resize", line.astype(np.float64), None, Const(f32(1, 1, 1.3)), mode="linear"),
        case("Resize", line.astype(np.float16), None, Const(f32(1, 1, 2.5)), mode="linear"),
        case("Resize", (line * 50).astype(np.int32), None, Const(f32(1, 1, 2)), mode="nearest"),
        case(
            "Resize", X[:0], None, Const(f32(1, 1, 2, 2)), mode="nearest", expected=np.zeros((0, 3, 14, 10), np.float32)
        ),
    ]
    check_cases(cases, opset=19, atol=1e-5)


def test_size_taken_from_another_input():
    text = """<ir_version: 9, opset_import: ["" : 19]>
        f (float[1, 2, h, w] x, float[n, c, oh, ow] like) => (float[1, 2, oh, ow] y) {
            size = Shape<start=2>(like)
            y = Resize<axes=[2, 3], mode="linear", coordinate_transformation_mode="half_pixel">(x, , , size)
        }"""
    feeds = [
        {"x": RNG.standard_normal((1, 2, *a)).astype("f"), "like": np.zeros((1, 1, *b), "f")}
        for a, b in [((3, 4), (7, 5)), ((5, 5), (2, 11))]
    ]
    check_model(text, feeds, reference="ort", atol=1e-5)


def test_scales_and_roi_read_at_run_time():
    modes = [
        ("nearest", "half_pixel"),
        ("nearest", "asymmetric"),
        ("linear", "align_corners"),
        ("linear", "half_pixel"),
    ]
    cases = [
        by_runtime(case("Resize", X, None, f32(1, 1, *pair), mode=mode, coordinate_transformation_mode=coordinates))
        for (mode, coordinates), pair in itertools.product(modes, [(2, 3), (0.6, 1.7)])
    ]
    roi = f32(0, 0, 0.2, 0.1, 1, 1, 0.8, 1.2)
    crop = {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear", "extrapolation_value": 4.0}
    cases.append(by_runtime(case("Resize", X, roi, None, Const(i64(2, 3, 4, 6)), **crop)))
    check_cases(cases, opset=19, atol=1e-5)


def test_older_opsets():
    def old(op_type: str, opset: int, **attributes: object) -> None:
        nodes = [
            case(op_type, X, Const(f32(1, 1, *pair)), mode=mode, dims=dims, **attributes)
            for pair, mode in itertools.product([(2, 3), (1.5, 2.2)], ["nearest", "linear"])
            for dims in ("fixed", "open")
        ]
        check_cases([by_runtime(node, opset) for node in nodes], opset=opset)

    old("Upsample", 9)
    old("Resize", 10)
    check_cases([by_runtime(case("Upsample", X, mode="nearest", scales=[1.0, 1.0, 2.0, 3.0]), 7)], opset=7)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (case("Resize", X, expected=X), "neither scales nor sizes"),
        (case("Resize", X, None, Const(f32(1, 1)), expected=X), "2 scales for 4 axes"),
        (case("Resize", X, None, Const(f32(1, 1, 0, 1)), expected=X), "must be positive"),
        (
            case("Resize", X, f32(0, 0, 0, 0, 1, 1, 1, 1), f32(1, 1, 0.5, 0.5), mode="linear", antialias=1,
                 coordinate_transformation_mode="tf_crop_and_resize", expected=X),
            "antialias with tf_crop_and_resize needs a scale",
        ),
    ],
)
def test_refusals(node, words):
    with pytest.raises(ConversionError, match=words):
        check_cases([node], opset=19)
