"""QCOW2, versions 2 and 3: what its header may say. The tables it points to are checked in `qcow2_tables`.

Accepted: zlib and zstd clusters, extended L2, the dirty bit (it speaks of refcounts, which reading never uses), bitmaps, and
internal snapshots, of which only the active state is read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from tasks.engine.disks import c_qcow2 as c
from tasks.engine.disks.bytesource import ByteSource, Depth
from tasks.engine.disks.claims import require_aligned
from tasks.engine.disks.codes import refusal
from tasks.engine.disks.formats import DiskFormat, Finding
from tasks.engine.disks.qcow2_tables import Layout, check_tables
from tasks.engine.disks.sizes import require_virtual_size
from tasks.engine.geometry import SECTOR_SIZE


def examine(source: ByteSource, *, max_virtual_size: int, depth: Depth) -> Finding:
    """The finding for a QCOW2 file; raises DiskRefused."""
    v2, v3 = _read_header(source)
    _check_references(v2, v3)
    _check_features(v2, v3)
    require_virtual_size(v2.size, maximum=max_virtual_size)
    require_aligned(v2.size, unit=SECTOR_SIZE, what="the end of the virtual disk")
    extensions = _read_extensions(source, v2, v3)
    if depth != "start":
        check_tables(source, _layout(v2, v3, extensions.get(c.EXTENSION_BITMAPS, b"")), full=depth == "full")
    return Finding(DiskFormat.QCOW2, v2.size)


class Compression(IntEnum):
    """How compressed clusters are packed: the header's compression_type."""

    ZLIB = 0
    ZSTD = 1


def read_layout(source: ByteSource) -> tuple[Layout, Compression]:
    """Where the tables of a file that passed `examine` are, and how its clusters are compressed."""
    v2, v3 = _read_header(source)
    return _layout(v2, v3, b""), Compression(v3.compression_type)


def _read_header(source: ByteSource) -> tuple[c.HeaderV2, c.HeaderV3]:
    v2 = c.HeaderV2(*struct.unpack(c.HEADER_V2, source.pread(0, c.HEADER_V2_LENGTH)))
    if v2.version not in (2, 3):
        raise refusal("unknown_version", f"QCOW2 version {v2.version} is not known")
    if not c.MIN_CLUSTER_BITS <= v2.cluster_bits <= c.MAX_CLUSTER_BITS:
        raise refusal("cluster_size", f"QCOW2 clusters of 2^{v2.cluster_bits} bytes are not allowed")
    return v2, c.HeaderV3() if v2.version == 2 else _read_v3(source, cluster_size=1 << v2.cluster_bits)


def _read_v3(source: ByteSource, *, cluster_size: int) -> c.HeaderV3:
    fields = struct.unpack(c.HEADER_V3, source.pread(c.HEADER_V3_OFFSET, struct.calcsize(c.HEADER_V3)))
    v3 = c.HeaderV3(*fields)
    if not c.HEADER_V3_LENGTH <= v3.header_length <= cluster_size or v3.header_length % 8:
        raise refusal("bad_header", f"the QCOW2 header claims a length of {v3.header_length} bytes")
    return v3 if v3.header_length > c.COMPRESSION_TYPE_OFFSET else v3._replace(compression_type=0)


def _check_references(v2: c.HeaderV2, v3: c.HeaderV3) -> None:
    """Nothing outside this file is needed, and no secret."""
    if v2.backing_file_offset or v2.backing_file_size:
        raise refusal("backing_file", "the QCOW2 image depends on a backing file")
    if v3.incompatible_features & c.INCOMPAT_DATA_FILE or v3.autoclear_features & c.AUTOCLEAR_RAW_EXTERNAL:
        raise refusal("data_file", "the QCOW2 image keeps its data in another file")
    if v2.crypt_method:
        raise refusal("encrypted", f"the QCOW2 image is encrypted (method {v2.crypt_method})")


def _check_features(v2: c.HeaderV2, v3: c.HeaderV3) -> None:
    if unknown := v3.incompatible_features & ~c.INCOMPAT_KNOWN:
        raise refusal("unknown_feature", f"the QCOW2 image needs unknown features (bits {unknown:#x})")
    if v3.incompatible_features & c.INCOMPAT_CORRUPT:
        raise refusal("corrupt", "the QCOW2 image is marked as corrupt")
    if v3.compression_type > 1:
        raise refusal("unknown_feature", f"QCOW2 compression type {v3.compression_type} is not known")
    if bool(v3.incompatible_features & c.INCOMPAT_COMPRESSION) != bool(v3.compression_type):
        raise refusal("header_mismatch", "the QCOW2 compression type and its feature bit disagree")
    if v3.refcount_order > 6:
        raise refusal("unknown_feature", f"QCOW2 refcounts of 2^{v3.refcount_order} bits are not known")
    if v3.incompatible_features & c.INCOMPAT_EXTENDED_L2 and v2.cluster_bits < c.MIN_EXTENDED_CLUSTER_BITS:
        raise refusal("cluster_size", f"extended L2 needs larger clusters than 2^{v2.cluster_bits} bytes")


def _read_extensions(source: ByteSource, v2: c.HeaderV2, v3: c.HeaderV3) -> dict[int, bytes]:
    """Header extensions by type; those that lead to another file or to a key are refused."""
    found: dict[int, bytes] = {}
    offset, end = v3.header_length, 1 << v2.cluster_bits
    while offset + 8 <= end:
        kind, length = struct.unpack(">II", source.pread(offset, 8))
        if kind == c.EXTENSION_END:
            break
        if offset + 8 + length > end:
            raise refusal("bad_header", f"a QCOW2 header extension of {length} bytes does not fit the first cluster")
        if kind == c.EXTENSION_DATA_FILE:
            raise refusal("data_file", "the QCOW2 image names an external data file")
        if kind == c.EXTENSION_ENCRYPTION:
            raise refusal("encrypted", "the QCOW2 image has an encryption header")
        found[kind] = source.pread(offset + 8, length)
        offset += 8 + -(-length // 8) * 8
    return found


@dataclass(frozen=True, slots=True)
class _Bitmaps:
    offset: int = 0
    length: int = 0


def _bitmaps(extension: bytes) -> _Bitmaps:
    """Where the bitmap directory is; absent without the extension."""
    if not extension:
        return _Bitmaps()
    if len(extension) < struct.calcsize(c.BITMAPS_EXTENSION):
        raise refusal("bad_header", f"the QCOW2 bitmaps extension has only {len(extension)} bytes")
    count, _, length, offset = struct.unpack_from(c.BITMAPS_EXTENSION, extension)
    if count > c.MAX_BITMAPS or length > c.MAX_BITMAP_DIRECTORY_BYTES:
        raise refusal("table_size", f"the QCOW2 bitmap directory claims {count} entries in {length} bytes")
    return _Bitmaps(offset, length)


def _layout(v2: c.HeaderV2, v3: c.HeaderV3, bitmaps_extension: bytes) -> Layout:
    bitmaps = _bitmaps(bitmaps_extension)
    return Layout(
        virtual_size=v2.size,
        cluster_bits=v2.cluster_bits,
        extended=bool(v3.incompatible_features & c.INCOMPAT_EXTENDED_L2),
        zero_flag=v2.version == 3 and not v3.incompatible_features & c.INCOMPAT_EXTENDED_L2,
        l1_offset=v2.l1_table_offset,
        l1_size=v2.l1_size,
        refcount_offset=v2.refcount_table_offset,
        refcount_length=v2.refcount_table_clusters << v2.cluster_bits,
        snapshots=v2.nb_snapshots,
        snapshots_offset=v2.snapshots_offset,
        bitmaps_offset=bitmaps.offset,
        bitmaps_length=bitmaps.length,
    )
