"""The boot sector that proves an accelerator, as bytes beside their meaning; `accelerator` runs it.

Firmware must load it; it then enters long mode with paging, uses SSE and counts down, and reports through QEMU's
isa-debug-exit device. A KVM that merely emulates passes the firmware and fails here, by dying or by being too slow.
"""

from __future__ import annotations

EXIT_PORT = 0xF4
EXIT_VALUE = 0x2A
PROVED_STATUS = EXIT_VALUE << 1 | 1
"""QEMU's exit status when EXIT_VALUE arrived at the port."""

_PROTECTED_AND_PAGED = 0x80000013

_REAL_MODE = (
    ("fa", "cli"),
    ("31c0 8ed8 8ec0 8ed0", "xor ax,ax; mov ds,ax; mov es,ax; mov ss,ax"),
    ("bc007c fc", "mov sp,0x7c00; cld"),
    ("bf0010 b90018 f3ab", "mov di,0x1000; mov cx,0x1800; rep stosw: clear three page tables"),
    ("c70600100320", "mov word [0x1000],0x2003: top level points to 0x2000"),
    ("c70600200330", "mov word [0x2000],0x3003: second level points to 0x3000"),
    ("c70600308300", "mov word [0x3000],0x0083: one page of 2 MiB at 0"),
    ("66b820060000 0f22e0", "mov eax,0x620; mov cr4,eax: PAE and SSE"),
    ("66b800100000 0f22d8", "mov eax,0x1000; mov cr3,eax"),
    ("66b9800000c0 0f32", "mov ecx,0xc0000080; rdmsr"),
    ("80cc01 0f30", "or ah,1; wrmsr: long mode enable"),
    ("0f0116747c", "lgdt [0x7c74]"),
    (f"66b8 {_PROTECTED_AND_PAGED.to_bytes(4, 'little').hex()} 0f22c0", "mov eax,...; mov cr0,eax"),
    ("ea597c0800", "jmp 8:0x7c59"),
)
_LONG_MODE = (
    ("b900e1f505", "mov ecx,100000000"),
    ("660fefc0", "pxor xmm0,xmm0"),
    ("ffc9 75fc", "dec ecx; jnz back"),
    ("660f7ec0", "movd eax,xmm0"),
    (f"04{EXIT_VALUE:02x}", "add al,value"),
    (f"66ba{EXIT_PORT:02x}00 ee", "mov dx,port; out dx,al"),
    ("f4 ebfd", "hlt; jmp back"),
)
_TABLES = (
    ("0f00 7a7c0000", "limit and address of the descriptors"),
    ("0000000000000000", "null descriptor"),
    ("00000000009a2000", "64-bit code"),
)


def probe_disk() -> bytes:
    """A bootable disk that holds the probe; 1 MiB, because SeaBIOS boots no disk without a whole cylinder."""
    code = b"".join(bytes.fromhex(octets) for octets, _ in (*_REAL_MODE, *_LONG_MODE, *_TABLES))
    return (code.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0")
