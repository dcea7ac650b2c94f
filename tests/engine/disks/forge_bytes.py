"""Helpers for forged disk image files in memory: patch numbers, and ask the gate about the result."""

from __future__ import annotations

import struct

from tasks.engine.disks import gate
from tasks.engine.disks.bytesource import Depth, PrefixBytes
from tasks.engine.disks.formats import DiskFormat, Finding
from tasks.engine.errors import DiskRefused

TIB = 1 << 40


def put(data: bytearray, offset: int, layout: str, *values: object) -> bytearray:
    """Patch `values` in; the same bytearray is returned."""
    struct.pack_into(layout, data, offset, *values)
    return data


def finding(data: bytes, *, declared: DiskFormat | None = None, depth: Depth = "full", max_virtual_size: int = TIB) -> Finding:
    """What the gate finds in a file with this content."""
    source = PrefixBytes(bytes(data), complete=True)
    return gate.examine(source, declared=declared, max_virtual_size=max_virtual_size, depth=depth)


def verdict(data: bytes, *, declared: DiskFormat | None = None, depth: Depth = "full", max_virtual_size: int = TIB) -> str:
    """`accepted`, or the reason why the gate refuses a file with this content."""
    try:
        finding(data, declared=declared, depth=depth, max_virtual_size=max_virtual_size)
    except DiskRefused as refused:
        return refused.reason
    return "accepted"
