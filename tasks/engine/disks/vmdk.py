"""VMDK, monolithicSparse and streamOptimized in one file. Its text is judged in `vmdk_descriptor`, its tables in
`vmdk_grains`.
"""

from __future__ import annotations

import struct

from tasks.engine.disks import c_vmdk as c
from tasks.engine.disks.bytesource import ByteSource, Depth
from tasks.engine.disks.claims import require_inside
from tasks.engine.disks.codes import refusal
from tasks.engine.disks.formats import DiskFormat, Finding
from tasks.engine.disks.sizes import is_power_of_two, require_virtual_size
from tasks.engine.disks.vmdk_descriptor import check_descriptor
from tasks.engine.disks.vmdk_grains import check_directory, check_grains
from tasks.engine.geometry import SECTOR_SIZE


def examine(source: ByteSource, *, max_virtual_size: int, depth: Depth) -> Finding:
    """The finding for a VMDK file; raises DiskRefused."""
    header = _read_header(source, 0)
    size = header.capacity * SECTOR_SIZE
    _check_kind(header)
    require_virtual_size(size, maximum=max_virtual_size)
    _check_descriptor(source, header)
    _check_sizes(header)
    if depth != "start":
        placed = _with_footer(source, header)
        require_inside(0, placed.overhead * SECTOR_SIZE, size=source.size, what="the VMDK's overhead")
        check_directory(source, placed)
        if depth == "full":
            check_grains(source, placed)
    return Finding(DiskFormat.VMDK, size)


def _read_header(source: ByteSource, offset: int) -> c.Header:
    header = c.Header(*struct.unpack_from(c.HEADER, source.pread(offset, c.HEADER_LENGTH)))
    if header.magic != c.MAGIC:
        raise refusal("bad_header", f"there is no VMDK header at byte {offset}")
    return header


def _check_kind(header: c.Header) -> None:
    if not 1 <= header.version <= 3:
        raise refusal("unknown_version", f"VMDK version {header.version} is not known")
    if unknown := header.flags & ~c.FLAGS_KNOWN:
        raise refusal("unknown_feature", f"the VMDK header has unknown flags ({unknown:#x})")
    if header.flags & c.FLAG_NEWLINE_TEST and header.line_ends != c.LINE_ENDS:
        raise refusal("corrupt", "the VMDK was damaged by a transfer that changed line ends")
    if not header.capacity:
        # With no capacity QEMU follows the descriptor's extents to other files.
        raise refusal("vmdk_type", "the VMDK header has no capacity of its own")
    compressed = bool(header.flags & c.FLAG_COMPRESSED)
    if compressed != bool(header.flags & c.FLAG_MARKERS) or header.compress_algorithm != compressed:
        raise refusal("unknown_feature", f"VMDK compression {header.compress_algorithm} is not known")


def _check_sizes(header: c.Header) -> None:
    if not is_power_of_two(header.grain_size, least=c.MIN_GRAIN_SECTORS, most=c.MAX_GRAIN_SECTORS):
        raise refusal("cluster_size", f"VMDK grains of {header.grain_size} sectors are not allowed")
    if header.num_gtes_per_gt != c.GTES_PER_GT:
        raise refusal("table_size", f"VMDK grain tables of {header.num_gtes_per_gt} entries are not allowed")
    if header.capacity > c.MAX_DIRECTORY_ENTRIES * c.GTES_PER_GT * header.grain_size:
        raise refusal("table_size", "the VMDK grain directory is larger than can be checked")


def _check_descriptor(source: ByteSource, header: c.Header) -> None:
    """The descriptor describes this one file, as the header does."""
    if not header.descriptor_offset:
        raise refusal("vmdk_type", "the VMDK has no descriptor of its own: it is one extent of a larger disk")
    if header.descriptor_offset != c.DESCRIPTOR_SECTOR:
        raise refusal("descriptor", f"the VMDK descriptor is at sector {header.descriptor_offset} instead of 1")
    length = header.descriptor_size * SECTOR_SIZE
    if not 0 < length <= c.MAX_DESCRIPTOR_LENGTH:
        raise refusal("descriptor", f"the VMDK descriptor claims {length} bytes")
    create_type, sectors = check_descriptor(_descriptor_bytes(source, length))
    if sectors != header.capacity:
        raise refusal("header_mismatch", f"the VMDK has {header.capacity} sectors, its descriptor says {sectors}")
    if (create_type == "streamOptimized") != bool(header.flags & c.FLAG_COMPRESSED):
        raise refusal("header_mismatch", f"the VMDK descriptor says {create_type}, its header's flags do not")


def _descriptor_bytes(source: ByteSource, length: int) -> bytes:
    """The descriptor and what follows it as far as QEMU would take it for text."""
    begin = c.DESCRIPTOR_SECTOR * SECTOR_SIZE
    data = source.pread(begin, length)
    if b"\0" in data:
        return data
    for offset in range(begin + length, begin + max(length, c.QEMU_DESCRIPTOR_LENGTH), SECTOR_SIZE):
        data += source.pread(offset, SECTOR_SIZE)
        if b"\0" in data:
            break
    return data


def _with_footer(source: ByteSource, header: c.Header) -> c.Header:
    """The header that says where the grain directory is: the footer's, where the header leaves it to that."""
    if header.gd_offset != c.GD_AT_END:
        return header
    begin = source.size - c.FOOTER_DISTANCE
    require_inside(c.HEADER_LENGTH, c.FOOTER_DISTANCE, size=source.size, what="the VMDK footer")
    end = source.pread(source.size - SECTOR_SIZE, struct.calcsize(c.MARKER))
    _, size, kind = struct.unpack(c.MARKER, source.pread(begin, struct.calcsize(c.MARKER)))
    if kind != c.MARKER_FOOTER or size or any(end):
        raise refusal("truncated", "the VMDK stream does not end with its footer")
    footer = _read_header(source, begin + SECTOR_SIZE)
    _compare_footer(header, footer)
    return footer


def _compare_footer(header: c.Header, footer: c.Header) -> None:
    """Only the places of tables may differ."""
    if _placeless(header) != _placeless(footer):
        raise refusal("header_mismatch", "the VMDK header and its footer disagree")
    if footer.descriptor_offset not in (0, header.descriptor_offset):
        raise refusal("header_mismatch", "the VMDK footer has another descriptor than the header")
    if footer.gd_offset == c.GD_AT_END:
        raise refusal("header_mismatch", "the VMDK footer does not say where the grain directory is")


def _placeless(header: c.Header) -> c.Header:
    moved = header._replace(rgd_offset=0, gd_offset=0, overhead=0, unclean_shutdown=0)
    return moved._replace(descriptor_offset=0, descriptor_size=0)
