"""What is in device code: the architecture of a cubin and what each of its kernels takes, the target of a PTX text.

A cubin is an ELF file. Its sections' names and NVIDIA's attributes in them (``.nv.info``) have no specification; what
is read here is what ``cuobjdump`` and ``readelf`` show of them: registers as attribute 0x2f, the stack frame as 0x11,
static shared memory as the size of ``.nv.shared.KERNEL``, of which the system takes 1 KB from sm_90 on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import CompileError
from ..gpus import REGISTERS_PER_BLOCK, Gpu

_CUDA_MACHINE = 190
_FRAME_SIZE, _REGISTERS = 0x11, 0x2F
_SYSTEM_SHARED_BYTES = 1024
_SECTION = struct.Struct("<IIQQQQIIQQ")
_HINT = "report the model; it is a defect of the compiler"


@dataclass(frozen=True)
class KernelUse:
    """What one thread (registers, bytes of stack) and one block (bytes of shared memory) of a kernel take.

    The stack holds local arrays that didn't fit into registers, and registers that were spilled.
    """

    name: str
    registers: int
    shared_bytes: int
    stack_bytes: int


@dataclass(frozen=True)
class _Section:
    name: str
    size: int
    data: bytes


def architecture_of_cubin(data: bytes) -> int:
    """Compute capability times ten, as the ELF header says it. Raises CompileError when it is no cubin."""
    if data[:6] != b"\x7fELF\x02\x01" or len(data) < 64 or struct.unpack_from("<H", data, 18)[0] != _CUDA_MACHINE:
        raise CompileError("what NVRTC made is no ELF file with CUDA machine code", hint=_HINT)
    (flags,) = struct.unpack_from("<I", data, 48)
    # The architecture moved by a byte with the eighth version of the format.
    return flags >> 8 & 0xFF if data[8] >= 8 else flags & 0xFF


def architecture_of_ptx(data: bytes) -> int:
    """Compute capability times ten of ``.target``. Raises CompileError when it is no PTX."""
    head = data[:4096].decode("ascii", errors="replace")
    target = re.search(r"^\.target sm_(\d+)", head, re.MULTILINE)
    if target is None or not re.search(r"^\.version \d+\.\d+", head, re.MULTILINE):
        raise CompileError("what NVRTC made is no PTX", hint=_HINT)
    return int(target[1])


def kernels_of_ptx(data: bytes) -> list[str]:
    """Names of the kernels that a PTX text defines, sorted."""
    return sorted(re.findall(r"^\.visible \.entry (\w+)\(", data.decode("ascii", errors="replace"), re.MULTILINE))


def kernels_of_cubin(data: bytes) -> list[KernelUse]:
    """What every kernel takes, sorted by name. Raises CompileError when it is no cubin."""
    reserved = _SYSTEM_SHARED_BYTES if architecture_of_cubin(data) >= 90 else 0
    sections = {section.name: section for section in _sections(data)}
    names = [name.removeprefix(".text.") for name in sections if name.startswith(".text.")]
    found = _attributes(data, sections)
    uses = []
    for name in sorted(names):
        shared = sections.get(f".nv.shared.{name}")
        registers, stack = found.get((_REGISTERS, name)), found.get((_FRAME_SIZE, name))
        if registers is None or stack is None:
            raise CompileError(f"the machine code doesn't say what {name} takes", hint=_HINT)
        uses.append(KernelUse(name, registers, max(0, shared.size - reserved) if shared else 0, stack))
    return uses


def check_limits(uses: list[KernelUse], threads: dict[str, int], gpu: Gpu) -> None:
    """Raise CompileError for kernels that ``gpu`` can't start; ``threads`` are those of a block, by kernel."""
    wrong = []
    for use in uses:
        if use.shared_bytes > gpu.shared_bytes:
            wrong.append(f"{use.name} needs {use.shared_bytes} bytes of shared memory of {gpu.shared_bytes}")
        # Registers are given to warps of 32 threads in units of 8 each.
        warps = -(-threads.get(use.name, 1) // 32)
        registers = warps * 32 * (-(-use.registers // 8) * 8)
        if registers > REGISTERS_PER_BLOCK:
            wrong.append(f"{use.name} needs {registers} registers a block of {REGISTERS_PER_BLOCK}")
    if wrong:
        raise CompileError(
            f"kernels don't fit {gpu.name}: {'; '.join(wrong)}", hint="leave that architecture out, or report the model"
        )


def _sections(data: bytes) -> Iterator[_Section]:
    (offset,) = struct.unpack_from("<Q", data, 40)
    size, count, names_index = struct.unpack_from("<HHH", data, 58)
    headers = [_SECTION.unpack_from(data, offset + index * size) for index in range(count)]
    names = data[headers[names_index][4] :]
    for name, kind, _, _, start, length, *_ in headers:
        content = b"" if kind == 8 else data[start : start + length]
        yield _Section(_text_at(names, name), length, content)


def _text_at(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode()


def _attributes(data: bytes, sections: dict[str, _Section]) -> dict[tuple[int, str], int]:
    """Attributes of ``.nv.info`` that are pairs (symbol, number), by attribute and symbol's name."""
    info, symbols, strings = (sections.get(name) for name in (".nv.info", ".symtab", ".strtab"))
    found: dict[tuple[int, str], int] = {}
    if info is None or symbols is None or strings is None:
        return found
    at = 0
    while at + 4 <= len(info.data):
        form, attribute, value = struct.unpack_from("<BBH", info.data, at)
        at += 4
        if form == 4:  # The value is the length of what follows; of other forms it is all there is.
            if value == 8:
                symbol, number = struct.unpack_from("<II", info.data, at)
                (name,) = struct.unpack_from("<I", symbols.data, symbol * 24)
                found[attribute, _text_at(strings.data, name)] = number
            at += value
    return found
