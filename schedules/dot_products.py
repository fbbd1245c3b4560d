"""Sums of four products of bytes, a lane each: what every 8-bit kernel is made of.

``sums[lane] += data[0] * weight[lane, 0] + ... + data[3] * weight[lane, 3]``, data unsigned, weights signed, sums in
int32, exact. With VNNI that is one instruction (``vpdpbusd``). Elsewhere bytes are widened to 16 bits, the even ones
and the odd ones of each group apart, so that pairs of products meet in their lane (``vpmaddwd``): the instruction for
bytes (``vpmaddubsw``) would saturate sums at 16 bits.

TVM's own intrinsic for VNNI fails with LLVM 22, whose ``vpdpbusd`` takes vectors of bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.tirx import PrimFunc

from ..targets import Target

GROUP = 4
"""Bytes that meet in a lane."""


@dataclass(frozen=True)
class Dot:
    """``intrinsic`` is the registered name of the instruction for ``lanes`` lanes; None where lanes are plain code."""

    intrinsic: str | None
    lanes: int


def dot_for(target: Target) -> Dot:
    """The fastest way of a machine."""
    lanes = target.vector_lanes
    if target.isa.architecture != "x86_64":
        return Dot(None, 16)
    if {"avx512vnni", "avxvnni"} & set(target.required_features):
        return _registered(f"kiln.dot4_vnni_{lanes}", lanes, _vnni(lanes, f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"))
    widened = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}
    return _registered(f"kiln.dot4_widened_{lanes}", lanes, _widened(lanes, widened[lanes]))


def _registered(name: str, lanes: int, instruction: PrimFunc) -> Dot:
    if TensorIntrin.get(name, allow_missing=True) is None:
        TensorIntrin.register(name, _description(lanes), instruction)
    return Dot(name, lanes)


def _description(lanes: int) -> PrimFunc:
    @T.prim_func(s_tir=True)
    def description(
        act: T.Buffer((4,), "uint8", align=1, offset_factor=1),  # type: ignore[valid-type]
        wgt: T.Buffer((lanes, 4), "int8", align=1, offset_factor=1),  # type: ignore[valid-type]
        acc: T.Buffer((lanes,), "int32", align=4, offset_factor=1),  # type: ignore[valid-type]
    ) -> None:
        with T.sblock("root"):
            T.reads(acc[0:lanes], act[0:4], wgt[0:lanes, 0:4])
            T.writes(acc[0:lanes])
            for lane, depth in T.grid(lanes, 4):
                with T.sblock("products"):
                    i, k = T.axis.remap("SR", [lane, depth])
                    acc[i] = acc[i] + T.cast(act[k], "int32") * T.cast(wgt[i, k], "int32")

    return description


def _vnni(lanes: int, instruction: str) -> PrimFunc:
    sums, octets = f"int32x{lanes}", f"int8x{4 * lanes}"

    @T.prim_func(s_tir=True)
    def multiply(
        act: T.Buffer((4,), "uint8", align=1, offset_factor=1),  # type: ignore[valid-type]
        wgt: T.Buffer((lanes, 4), "int8", align=1, offset_factor=1),  # type: ignore[valid-type]
        acc: T.Buffer((lanes,), "int32", align=4, offset_factor=1),  # type: ignore[valid-type]
    ) -> None:
        with T.sblock("root"):
            T.reads(acc[0:lanes], act[0:4], wgt[0:lanes, 0:4])
            T.writes(acc[0:lanes])
            four = T.reinterpret(act.vload([0], "uint8x4"), dtype="int32")
            acc[T.ramp(T.int32(0), 1, lanes)] = T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id(instruction),
                acc.vload([0], sums),
                T.reinterpret(T.broadcast(four, lanes), dtype=octets),
                wgt.vload([0, 0], dtype=octets),
                dtype=sums,
            )

    return multiply


def _widened(lanes: int, instruction: str) -> PrimFunc:
    sums, octets, pairs = f"int32x{lanes}", f"int8x{4 * lanes}", f"int16x{2 * lanes}"
    halves = 2 * lanes

    @T.prim_func(s_tir=True)
    def multiply(
        act: T.Buffer((4,), "uint8", align=1, offset_factor=1),  # type: ignore[valid-type]
        wgt: T.Buffer((lanes, 4), "int8", align=1, offset_factor=1),  # type: ignore[valid-type]
        acc: T.Buffer((lanes,), "int32", align=4, offset_factor=1),  # type: ignore[valid-type]
    ) -> None:
        with T.sblock("root"):
            T.reads(acc[0:lanes], act[0:4], wgt[0:lanes, 0:4])
            T.writes(acc[0:lanes])
            four = T.reinterpret(act.vload([0], "uint8x4"), dtype="int32")
            acc[T.ramp(T.int32(0), 1, lanes)] = (
                acc.vload([0], sums)
                + T.call_llvm_pure_intrin(
                    T.llvm_lookup_intrinsic_id(instruction),
                    T.reinterpret(T.broadcast(T.bitwise_and(four, T.int32(0x00FF00FF)), lanes), dtype=pairs),
                    T.shift_right(
                        T.shift_left(
                            T.reinterpret(wgt.vload([0, 0], dtype=octets), dtype=pairs),
                            T.broadcast(T.int16(8), halves),
                        ),
                        T.broadcast(T.int16(8), halves),
                    ),
                    dtype=sums,
                )
            ) + T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id(instruction),
                T.reinterpret(
                    T.broadcast(T.bitwise_and(T.shift_right(four, T.int32(8)), T.int32(0x00FF00FF)), lanes),
                    dtype=pairs,
                ),
                T.shift_right(
                    T.reinterpret(wgt.vload([0, 0], dtype=octets), dtype=pairs), T.broadcast(T.int16(8), halves)
                ),
                dtype=sums,
            )

    return multiply
