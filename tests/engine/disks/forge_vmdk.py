"""VMDK files of one grain table: monolithicSparse with two plain grains, streamOptimized with compressed ones and a footer."""

from __future__ import annotations

import struct
import zlib

from forge_bytes import put

from tasks.engine.disks import c_vmdk as c

SECTOR = 512
GRAIN = 8
CAPACITY = 64
DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="{kind}"

# Extent description
RW {sectors} SPARSE "disk.vmdk"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "1"
"""
DIRECTORY, TABLE, GRAIN_0, GRAIN_1, END = 21, 22, 32, 40, 48
"""Sectors of the plain file; the descriptor has twenty from sector 1."""

_PLAIN = c.Header(c.MAGIC, 1, 1, CAPACITY, GRAIN, 1, 20, 512, 0, DIRECTORY, 32, 0, c.LINE_ENDS, 0)
_STREAM = _PLAIN._replace(version=3, flags=0x30001, gd_offset=c.GD_AT_END, overhead=21, compress_algorithm=1)


def descriptor(*, kind: str = "monolithicSparse", sectors: int = CAPACITY) -> str:
    return DESCRIPTOR.format(kind=kind, sectors=sectors)


def vmdk(text: str | None = None, **fields: int | bytes) -> bytearray:
    """The plain file, with another descriptor, or fields of its header replaced by name."""
    data = bytearray(END * SECTOR)
    put(data, 0, c.HEADER, *_PLAIN._replace(**fields))  # type: ignore[arg-type]
    encoded = (descriptor() if text is None else text).encode()
    data[SECTOR : SECTOR + len(encoded)] = encoded
    put(data, DIRECTORY * SECTOR, "<I", TABLE)
    return put(data, TABLE * SECTOR, "<II", GRAIN_0, GRAIN_1)


def with_grains(*entries: int, **fields: int) -> bytearray:
    """The plain file with other first entries in its grain table."""
    return put(vmdk(**fields), TABLE * SECTOR, f"<{len(entries)}I", *entries)


def compressed_grain(lba: int, *, size: int | None = None) -> bytes:
    packed = zlib.compress(bytes([lba]) * GRAIN * SECTOR)
    grain = struct.pack("<QI", lba, len(packed) if size is None else size) + packed
    return grain.ljust(-(-len(grain) // SECTOR) * SECTOR, b"\0")


def stream(*grains: bytes, footer: dict[str, int] | None = None, **fields: int) -> bytearray:
    """A streamOptimized file of these grains: grain table, directory, footer and end-of-stream marker follow them."""
    data = bytearray(21 * SECTOR)
    header = _STREAM._replace(**fields)  # type: ignore[arg-type]
    put(data, 0, c.HEADER, *header)
    text = descriptor(kind="streamOptimized").encode()
    data[SECTOR : SECTOR + len(text)] = text
    entries = []
    for grain in grains:
        entries.append(len(data) // SECTOR)
        data += grain
    table = len(data) // SECTOR
    data += struct.pack(f"<{len(entries)}I", *entries).ljust(4 * SECTOR, b"\0") + struct.pack("<I", table).ljust(SECTOR, b"\0")
    placed = header._replace(gd_offset=table + 4)._replace(**(footer or {}))  # type: ignore[arg-type]
    marker = struct.pack(c.MARKER, 1, 0, c.MARKER_FOOTER)
    return data + marker.ljust(SECTOR, b"\0") + struct.pack(c.HEADER, *placed).ljust(SECTOR, b"\0") + bytes(SECTOR)
