"""Matrix products of 16 x 16 on tensor cores as tensor intrinsics: what they compute, and the calls that compute it.

The calls are those of ``tensor_cores.h``, whose text is put into the kernels' source. Sums live in TVM's scope
``wmma.accumulator``, spread over a warp; operands are read where they lie in shared memory.
"""

from __future__ import annotations

from pathlib import Path

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.tirx import PrimFunc

SIDE = 16
WARP = 32
HEADER = (Path(__file__).with_name("tensor_cores.h")).read_text()
INCLUDE = "#include <mma.h>"
"""What TVM writes where a kernel uses tensor cores."""

MARK = "kiln.tensor_cores"
"""Attribute of functions that use them: their buffers in shared memory keep a type each."""

FILL, STORE = "kiln.sums_fill", "kiln.sums_store"
PRODUCTS = {"float16": "kiln.product_f16", "float32": "kiln.product_tf32"}
"""By the operands' type in shared memory; float32 is rounded to tf32 on its way to the instruction."""


def ensure_registered() -> None:
    """Make the intrinsics known to TVM by the names above."""
    if TensorIntrin.get(FILL, allow_missing=True) is not None:
        return
    TensorIntrin.register(STORE, *_store())
    for dtype, name in PRODUCTS.items():
        TensorIntrin.register(name, *_product(dtype, name.replace(".", "_")))
    TensorIntrin.register(FILL, *_fill())


def with_tensor_cores(source: str) -> str:
    """CUDA source whose calls of tensor cores are defined."""
    return source.replace(INCLUDE, HEADER, 1)


def _fill() -> tuple[PrimFunc, PrimFunc]:
    @T.prim_func(s_tir=True)
    def description(c: T.handle) -> None:
        C = T.match_buffer(c, (16, 16), "float32", align=64, offset_factor=16, scope="wmma.accumulator")
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:16, 0:16])
            for i, j in T.grid(16, 16):
                with T.sblock("init"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    C[vi, vj] = T.float32(0)

    @T.prim_func(s_tir=True)
    def calls(c: T.handle) -> None:
        d1, d0 = T.int32(), T.int32()
        C = T.match_buffer(
            c, (16, 16), "float32", align=64, offset_factor=16, scope="wmma.accumulator", strides=[d1, d0]
        )
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:16, 0:16])
            T.evaluate(
                T.tvm_fill_fragment(
                    C.data, 16, 16, 16, C.elem_offset // d1 // 16 * (d1 // 16) + C.elem_offset % d1 // 16,
                    T.float32(0), dtype="handle",
                )
            )  # fmt: skip

    return description, calls


def _store() -> tuple[PrimFunc, PrimFunc]:
    @T.prim_func(s_tir=True)
    def description(a: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (16, 16), "float32", align=64, offset_factor=16, scope="wmma.accumulator")
        C = T.match_buffer(c, (16, 16), "float32", align=64, offset_factor=4, scope="shared")
        with T.sblock("root"):
            T.reads(A[0:16, 0:16])
            T.writes(C[0:16, 0:16])
            for i, j in T.grid(16, 16):
                with T.sblock("store"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    C[vi, vj] = A[vi, vj]

    @T.prim_func(s_tir=True)
    def calls(a: T.handle, c: T.handle) -> None:
        s1, s0, d1, d0 = T.int32(), T.int32(), T.int32(), T.int32()
        A = T.match_buffer(
            a, (16, 16), "float32", align=64, offset_factor=16, scope="wmma.accumulator", strides=[d1, d0]
        )
        C = T.match_buffer(c, (16, 16), "float32", align=64, offset_factor=4, scope="shared", strides=[s1, s0])
        with T.sblock("root"):
            T.reads(A[0:16, 0:16])
            T.writes(C[0:16, 0:16])
            T.evaluate(
                T.tvm_store_matrix_sync(
                    A.data, 16, 16, 16, A.elem_offset // d1 // 16 * (d1 // 16) + A.elem_offset % d1 // 16,
                    C.access_ptr("w", ptr_type="float32"), s1, "row_major", dtype="void",
                )
            )  # fmt: skip

    return description, calls


def _product(dtype: str, call: str) -> tuple[PrimFunc, PrimFunc]:
    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (16, 16), dtype, align=64, offset_factor=4, scope="shared")
        B = T.match_buffer(b, (16, 16), dtype, align=64, offset_factor=4, scope="shared")
        C = T.match_buffer(c, (16, 16), "float32", align=64, offset_factor=16, scope="wmma.accumulator")
        with T.sblock("root"):
            T.reads(C[0:16, 0:16], A[0:16, 0:16], B[0:16, 0:16])
            T.writes(C[0:16, 0:16])
            for i, j, k in T.grid(16, 16, 16):
                with T.sblock("product"):
                    vi, vj, vk = T.axis.remap("SSR", [i, j, k])
                    C[vi, vj] = C[vi, vj] + T.cast(A[vi, vk], "float32") * T.cast(B[vj, vk], "float32")

    @T.prim_func(s_tir=True)
    def calls(a: T.handle, b: T.handle, c: T.handle) -> None:
        a1, a0, b1, b0, d1, d0 = T.int32(), T.int32(), T.int32(), T.int32(), T.int32(), T.int32()
        A = T.match_buffer(a, (16, 16), dtype, align=64, offset_factor=4, scope="shared", strides=[a1, a0])
        B = T.match_buffer(b, (16, 16), dtype, align=64, offset_factor=4, scope="shared", strides=[b1, b0])
        C = T.match_buffer(
            c, (16, 16), "float32", align=64, offset_factor=16, scope="wmma.accumulator", strides=[d1, d0]
        )
        with T.sblock("root"):
            T.reads(C[0:16, 0:16], A[0:16, 0:16], B[0:16, 0:16])
            T.writes(C[0:16, 0:16])
            T.evaluate(
                T.call_extern(
                    "int32", call,
                    C.data, C.elem_offset // d1 // 16 * (d1 // 16) + C.elem_offset % d1 // 16,
                    A.access_ptr("r", ptr_type=dtype), a1, B.access_ptr("r", ptr_type=dtype), b1,
                )
            )  # fmt: skip

    return description, calls
